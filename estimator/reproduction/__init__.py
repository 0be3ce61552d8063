"""Our value of every published claim: what a quantity's name stands for, and the table of all claims."""
