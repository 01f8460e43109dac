"""Values and pure rules: the nouns of the hub, standard library only, no I/O."""
