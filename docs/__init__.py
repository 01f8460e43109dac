"""Documents; what is generated is generated from here."""
