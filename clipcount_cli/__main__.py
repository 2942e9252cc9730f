"""`python -m clipcount_cli`, which is also what torchrun starts."""

from clipcount_cli.cli import main

main()
