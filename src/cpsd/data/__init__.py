"""Records and the formats that produce them; checks; views; loading; the embedded demo data."""
