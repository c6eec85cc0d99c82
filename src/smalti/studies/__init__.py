"""Jobs made of several rooms: the demo, listings, a look at a data set."""
