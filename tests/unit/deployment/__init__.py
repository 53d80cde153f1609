"""What can be said of config/, k8s/base, k8s/overlays, the Dockerfile and docs/install.md without a cluster."""
