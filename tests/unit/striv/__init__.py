"""What can be said of k8s/striv without pods: its scripts, run as they are, and its manifests."""
