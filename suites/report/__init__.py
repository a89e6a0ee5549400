"""The report: static pages made of records alone, which need no server and ask no network."""
