"""Unit tests of rules, in the file format of `promtool test rules`. Not here: the command line (tocsin/cli/rules)."""
