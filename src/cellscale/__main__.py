"""`python -m cellscale` is the command `cellscale`."""

from cellscale.cli.main import main

main()
