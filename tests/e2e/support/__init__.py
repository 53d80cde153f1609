"""What the tests on real pods share: the cluster, the repository that pods fetch from, and runs."""
