// Package kubelet shows that the kubelet API of a virtual node is one: logs, exec, attach, port-forward, cp, debug and top of a pod
// that runs in a peer, through the API server of home, give what the provider's own API server gives for the same pod; who may not,
// cannot; and nothing is left of a stream that has ended. Two clusters with a real node each, metrics-server beside both.
//
// It is tests only, root only.
//
//	go test -v ./e2e/kubelet
//	go test -v -run 'TestKubelet/(Logs|Exec)' ./e2e/kubelet
package kubelet
