package lab

import (
	"fmt"
	"path/filepath"
)

// Names of the components, for Kill and Restart.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Kwok              = "kwok"
)

// simulatedLabel is carried by the nodes that kwok manages, and by no other:
// kwok leaves every other node and its pods alone.
const simulatedLabel = "lab.spillway.dev/simulated"

// layout is where a cluster's files are and how its components find each
// other. It is all that the components' arguments depend on.
type layout struct {
	pki
	name        string
	dir         string // run/CLUSTER in the state directory
	podCIDR     string
	serviceCIDR string
	port        *port
	metrics     *port  // of metrics-server; nil: none
	advertise   string // address for Service kubernetes; empty: none
	audit       bool
	egress      bool // the API server reaches the cluster through egressSocket
}

func (l layout) file(name string) string       { return filepath.Join(l.dir, name) }
func (l layout) kubeconfig(name string) string { return l.file(name + ".kubeconfig") }
func (l layout) etcdSocket() string            { return l.file("etcd.sock") }
func (l layout) egressSocket() string          { return l.file("egress.sock") }
func (l layout) server() string                { return "https://" + l.port.addr() }

// etcdPeer makes a socket named peer:1 in the working folder: etcd wants what
// looks like a host and a port.
const etcdPeer = "unix://peer:1"

// etcd listens on Unix sockets: no port, and nobody else gets in.
func (l layout) etcdArgs() []string {
	return []string{
		"--name=" + l.name,
		"--data-dir=" + l.file("etcd"),
		"--listen-client-urls=unix://" + l.etcdSocket(),
		"--advertise-client-urls=unix://client:1", // nobody asks for it
		"--listen-peer-urls=" + etcdPeer,
		"--initial-advertise-peer-urls=" + etcdPeer,
		"--initial-cluster=" + l.name + "=" + etcdPeer,
		"--unsafe-no-fsync",
		"--quota-backend-bytes=4294967296",
		"--snapshot-count=100000",
		"--auto-compaction-retention=0",
		"--log-level=warn",
	}
}

// The API server's settings are the same for every cluster, so that numbers
// compare: profiling off, the default limits on requests in flight.
func (l layout) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=unix://" + l.etcdSocket(),
		"--bind-address=" + l.port.ip,
		fmt.Sprintf("--secure-port=%d", l.port.number),
		"--permit-port-sharing=true",
		"--tls-cert-file=" + l.cert("apiserver"),
		"--tls-private-key-file=" + l.key("apiserver"),
		"--client-ca-file=" + l.cert("ca"),
		"--kubelet-certificate-authority=" + l.cert("ca"),
		"--kubelet-client-certificate=" + l.cert("kubelet-client"),
		"--kubelet-client-key=" + l.key("kubelet-client"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + l.key("service-account"),
		"--service-account-signing-key-file=" + l.key("service-account"),
		"--requestheader-client-ca-file=" + l.cert("front-proxy-ca"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + l.cert("front-proxy-client"),
		"--proxy-client-key-file=" + l.key("front-proxy-client"),
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-cluster-ip-range=" + l.serviceCIDR,
		"--profiling=false",
	}
	if l.advertise != "" {
		args = append(args, "--advertise-address="+l.advertise)
	} else {
		// Nothing could reach it: no pod of this cluster has a network. An
		// address for documentation keeps it from looking for one (RFC 5737).
		args = append(args, "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none")
	}
	if l.egress {
		args = append(args, "--egress-selector-config-file="+l.file("egress.yaml"))
	}
	if l.audit {
		args = append(args,
			"--audit-policy-file="+l.file("audit-policy.yaml"),
			"--audit-log-path="+l.auditLog(),
			"--audit-log-mode=batch",
			"--audit-log-batch-buffer-size=100000",
			"--audit-log-maxsize=0",
		)
	}
	return args
}

func (l layout) auditLog() string { return l.file("audit.log") }

// apiLimits lifts the client-side limits, which otherwise hold plain
// Kubernetes at 20 pods/s and make every comparison meaningless.
func apiLimits() []string { return []string{"--kube-api-qps=500", "--kube-api-burst=1000"} }

func (l layout) controllerManagerArgs() []string {
	args := apiLimits()
	if l.metrics != nil {
		args = append(args, "--horizontal-pod-autoscaler-sync-period="+AutoscalerPeriod.String())
	}
	return append(args,
		"--kubeconfig="+l.kubeconfig(ControllerManager),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+l.key("service-account"),
		"--root-ca-file="+l.cert("ca"),
		"--cluster-signing-cert-file="+l.cert("ca"),
		"--cluster-signing-key-file="+l.key("ca"),
		"--cluster-name="+l.name,
		"--cluster-cidr="+l.podCIDR,
		"--service-cluster-ip-range="+l.serviceCIDR,
		// The lab itself gives the nodes their ranges, see podRanges.
		"--allocate-node-cidrs=false",
	)
}

func (l layout) schedulerArgs() []string {
	return append(apiLimits(),
		"--kubeconfig="+l.kubeconfig(Scheduler),
		"--secure-port=0",
		"--leader-elect=false",
		"--profiling=false",
	)
}

func (l layout) kwokArgs() []string {
	return []string{
		"--kubeconfig=" + l.kubeconfig(Kwok),
		"--config=" + l.file("kwok.yaml"),
		"--manage-nodes-with-label-selector=" + simulatedLabel,
		"--cidr=" + l.podCIDR,
		"--v=ERROR",
	}
}
