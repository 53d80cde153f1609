"""The pipeline on real pods: any cluster with Tekton that KUBECONFIG names."""
