"""The tests; a package, so that the processes which some of them start can import them."""
