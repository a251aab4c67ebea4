"""What is raised where a file, or what is to go into one, will not do."""


class StoreError(ValueError):
    """A file, or what is to go into one, is not what this module writes."""


class CheckpointError(StoreError):
    """A model file or a checkpoint is not, to the bit, what npae wrote, or belongs to something else."""
