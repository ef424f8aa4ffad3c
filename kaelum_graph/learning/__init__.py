"""The backward pass: what is learned from live queries, with evidence as its only source of labels."""
