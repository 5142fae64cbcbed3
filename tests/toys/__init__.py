"""Two toy experiments, to try the contract and the command line on."""
