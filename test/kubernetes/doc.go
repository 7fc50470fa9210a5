// Package kubernetes holds Guildhall against a real Kubernetes API server: what the chart renders is applied to it, and
// what the accounts of the chart may do is done, and what they may not is tried. It runs by
//
//	make e2e-kubernetes
//
// which builds etcd and kube-apiserver from their Go modules (servers/go.mod), for minutes the first time. There are no
// nodes and no controllers: pods are admitted and never run. Agones is a stand-in behind the API server's aggregation
// layer, at the place where Agones' own service for allocations is.
//
// The servers are a module of their own, for they are a thousand packages that nothing here links. So is this package:
// who builds Guildhall does not fetch a client of Kubernetes.
package kubernetes
