package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/spillway-dev/spillway/cmd/spillwayd/agent"
	"github.com/spillway-dev/spillway/tunnel"
)

// defaultStateFile is in a folder that holds nothing else, so that it can go with the file.
const defaultStateFile = "/var/lib/spillway/node.json"

// defaultHTTPPort is where spillway doctor reads an agent's report.
const defaultHTTPPort = 9640

// nodeOptions are the flags of spillwayd node.
type nodeOptions struct {
	kubeconfig, context        string
	node, address              string
	stateFile, sysctls         string
	port, gossipPort, httpPort uint16
	userspace                  bool
	dns                        bool
	dnsUpstream                []string
	clusterDomain              string
	debugAddress, logLevel     string
}

func nodeCommand() *cobra.Command {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	if name := os.Getenv("NODE_NAME"); name != "" {
		host = name
	}
	var o nodeOptions
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Join this node's network with those of the peers",
		Long: "Keeps the routes, address translations and filters of one node, and on nodes labelled spillway.dev/gateway the\n" +
			"WireGuard devices. Runs on the host network of every node, as root. What it made stays in the kernel when it\n" +
			"ends, so that an upgrade interrupts nothing: `spillwayd node clean` takes it away.",
		Example: "  spillwayd node                                                    # in a DaemonSet, NODE_NAME from the field spec.nodeName\n" +
			"  spillwayd node --node-name worker-1 --kubeconfig /etc/spillway/kubeconfig\n" +
			"  spillwayd node clean",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runNode(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster this node belongs to (default: the cluster this runs in)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig (default: its current one)")
	f.StringVar(&o.node, "node-name", host, "name of the Node object (default: $NODE_NAME, or the host's name)")
	f.StringVar(&o.address, "node-address", "", "address at which other nodes reach this one (default: the Node's first internal address)")
	f.StringVar(&o.stateFile, "state-file", defaultStateFile, "keeps what is known for a start while the API server is away; readable by root only")
	f.StringVar(&o.sysctls, "sysctl-dir", tunnel.Sysctls, "where the kernel's network settings can be written; in a container that is not privileged, where it has the host's "+tunnel.Sysctls)
	f.Uint16Var(&o.port, "port", 51820, "UDP port of gateway slot 0, and TCP port of the same over TLS; slot 1 has the next, and so on; alike on all nodes")
	f.Uint16Var(&o.gossipPort, "gossip-port", 7947, "UDP and TCP port of the membership among this cluster's agents; alike on all nodes")
	f.Uint16Var(&o.httpPort, "http-port", defaultHTTPPort, "TCP port of /metrics, /report, /healthz and /readyz; spillway doctor reads 9640")
	f.BoolVar(&o.userspace, "userspace", false, "use WireGuard inside this process even where the kernel has it")
	f.BoolVar(&o.dns, "dns", true, "answer DNS for pods of tenants whose namespaces have other names here than at home, at a link-local address of this node; the controller of this cluster must be told the same")
	f.StringSliceVar(&o.dnsUpstream, "dns-upstream", nil, "where this cluster's DNS answers, for example 10.96.0.10 (default: the addresses of Service kube-system/kube-dns)")
	f.StringVar(&o.clusterDomain, "cluster-domain", defaultClusterDomain, "domain of this cluster's Services, as its kubelets know it")
	f.StringVar(&o.debugAddress, "debug-address", "", "serve profiles (/debug/pprof) on this address, for example 127.0.0.1:6060 (default: off)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	cmd.AddCommand(cleanCommand())
	return cmd
}

func runNode(ctx context.Context, o nodeOptions) error {
	log, err := newLogger(o.logLevel)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // stderr may be a pipe that cannot be synced
	var address netip.Addr
	if o.address != "" {
		if address, err = netip.ParseAddr(o.address); err != nil {
			return fmt.Errorf("--node-address %q: give an IP address such as 192.0.2.7", o.address)
		}
	}
	dns, err := o.parseDNS()
	if err != nil {
		return err
	}
	if o.node == "" {
		return fmt.Errorf("the name of the node is not known: give --node-name")
	}
	config, err := restConfig(controllerOptions{kubeconfig: o.kubeconfig, context: o.context})
	if err != nil {
		return err
	}
	protobuf := rest.CopyConfig(config)
	protobuf.ContentType = runtime.ContentTypeProtobuf
	protobuf.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(protobuf)
	if err != nil {
		return fmt.Errorf("make client for %s: %w", config.Host, err)
	}
	if o.debugAddress != "" {
		go serveDebug(o.debugAddress, log)
	}
	go giveBackMemory(ctx)
	log = log.With(zap.String("node", o.node))
	a, err := agent.New(agent.Config{
		REST: config, Client: client, Node: o.node, Address: address, Port: o.port, GossipPort: o.gossipPort,
		HTTPPort: o.httpPort, StateFile: o.stateFile, Sysctls: o.sysctls, Userspace: o.userspace, DNS: dns, Log: log,
	})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// defaultClusterDomain is that of nearly all clusters.
const defaultClusterDomain = "cluster.local"

func (o nodeOptions) parseDNS() (agent.DNS, error) {
	d := agent.DNS{Off: !o.dns, Domain: o.clusterDomain}
	for _, text := range o.dnsUpstream {
		at, err := netip.ParseAddrPort(text)
		if a, bare := netip.ParseAddr(text); bare == nil {
			at, err = netip.AddrPortFrom(a, 53), nil
		}
		if err != nil {
			return d, fmt.Errorf("--dns-upstream %q: give an address such as 10.96.0.10 or 10.96.0.10:53", text)
		}
		d.Upstream = append(d.Upstream, at)
	}
	return d, checkDomain(o.clusterDomain)
}

// checkDomain says whether a domain can be that of a cluster.
func checkDomain(domain string) error {
	if problems := validation.IsDNS1123Subdomain(domain); len(problems) > 0 {
		return fmt.Errorf("--cluster-domain %q: %s", domain, strings.Join(problems, "; "))
	}
	return nil
}
