"""Jobs made of several rooms: ablations, the demo, listings, a look at a data set."""
