"""`python -m unmask`, which is how `torchrun -m unmask` starts its processes."""

from unmask.cli.main import main

main()
