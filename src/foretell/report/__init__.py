"""Results as pictures: learning curves and videos."""
