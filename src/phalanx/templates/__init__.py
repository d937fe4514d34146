"""What `phalanx new` copies: text files, of which the Python ones are checked like our own."""
