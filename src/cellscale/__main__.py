"""`python -m cellscale` is the command `cellscale`."""

from cellscale.cli import main

main()
