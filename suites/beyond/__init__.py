"""What came after the paper: experiments and published claims that are not its own."""
