"""Web: pages, flags by OFREP and the JSON API over the rooms below; reads through its ports, writes nothing."""
