"""The files that `phalanx new` copies; the Python files among them are checked like our own."""
