"""`python -m npae` is `npae`.
"""
from npae.cli import main

raise SystemExit(main())
