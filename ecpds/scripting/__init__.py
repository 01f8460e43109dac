"""Scripts of people, in processes that can do nothing but compute."""
