"""`python -m orca_bench` is `orca-bench`, so that launchers that start modules (torchrun, deepspeed) can start it."""

from orca_bench.cli.main import main

if __name__ == "__main__":
    main()
