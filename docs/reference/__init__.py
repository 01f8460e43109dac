"""The reference: pages made from the declarations in the code, compared by a test."""
