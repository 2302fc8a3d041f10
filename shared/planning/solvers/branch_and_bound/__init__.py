"""The best plan of a graph of batches: paths through the graph, branch and bound over cycle bounds."""
