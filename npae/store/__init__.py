"""Strict reading and writing of arrays and JSON in one `.npz`: no pickle, a manifest with digests, atomic replacement.
Plain `np.load` opens such a file too; here arrays and meta are exactly what was written, or the file is refused.
"""
from npae.store.archive import ARRAY_NAME, DAMAGE, DTYPES, read, storable, write
from npae.store.errors import CheckpointError, StoreError
from npae.store.exact_json import check_json, from_json, read_json, write_json
from npae.store.files import CHUNK, atomic, check_target, read_bytes, remove_orphans, sync_folder, write_text
from npae.store.lock import LOCK, one_writer

__all__ = ["ARRAY_NAME", "CHUNK", "DAMAGE", "DTYPES", "LOCK", "CheckpointError", "StoreError", "atomic", "check_json",
           "check_target", "from_json", "one_writer", "read", "read_bytes", "read_json", "remove_orphans",
           "storable", "sync_folder", "write", "write_json", "write_text"]
