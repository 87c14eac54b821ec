# One control plane and one worker; the example models are on the worker's disk as /models.
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
  - role: worker
    extraMounts:
      - hostPath: @MODELS@
        containerPath: /models
        readOnly: true
