"""Files: splits, input and output formats, the output's commit, bad records set aside."""
