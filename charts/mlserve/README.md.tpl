# mlserve {{ version }}

A Kubernetes operator that turns `kubectl apply -f model.yaml` into a served PyTorch model and keeps every new version
safe. This chart installs the operator; models are `ModelDeployment` resources.

```console
helm install mlserve charts/mlserve --namespace mlserve-system --create-namespace
helm test mlserve --namespace mlserve-system
```

Needs Kubernetes 1.30 or newer. Nothing else: no certificate manager, no webhook, no service mesh, no Prometheus.

## What it may do

The operator's rules are written from a table in its own code and enforced by the API server in its tests. With
`watchNamespaces` it gets a Role in each of those namespaces and no ClusterRole at all:

```console
helm install mlserve charts/mlserve --namespace mlserve-system --create-namespace \
  --set 'watchNamespaces={team-a,team-b}'
```

The namespaces have to exist. With `rbac.aggregateRoles` everybody who holds the built-in role `view` sees
ModelDeployments, and who holds `edit` or `admin` may change them.

## Upgrade, rollback, uninstall

`helm upgrade` and `helm rollback` replace the operator only. Running models keep serving meanwhile, and none of their
pods is restarted: the image and the settings a revision began with are pinned in the revision.

`helm uninstall` leaves the CustomResourceDefinition behind (`crds.keep`), and with it every ModelDeployment and all that
serves it. A release of the same name and namespace, installed later, adopts them. To remove everything:

```console
kubectl delete modeldeployments --all --all-namespaces
helm uninstall mlserve --namespace mlserve-system
kubectl delete crd modeldeployments.mlserve.io
```

## Values

`values.schema.json` refuses a value that is wrong and says which and why.

{{ values }}
