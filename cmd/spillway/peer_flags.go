package main

import (
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// peerFlags are the flags of peer as they were typed.
type peerFlags struct {
	local, remote         access
	remoteServer          string
	name, consumerName    string
	share, shareResources string
	nodeSelector          string
	podSecurity           string
	sameNamespaces        bool
	ingressClass          string
	nodeName, nodeLabels  string
	tunnel, via           string
	endpoints             []string
	remoteEndpoints       []string
	timeout               time.Duration
	format                string
	given                 func(flag string) bool // whether a flag was typed at all
}

// peerWish is what a user wants of a peering. A nil pointer or map was not said and leaves alone what is there.
type peerWish struct {
	local, remote      access
	remoteServer       string // empty: as in the kubeconfig
	name, consumerName string // empty: from the names of the contexts
	percent            *int32
	resources          *corev1.ResourceList
	nodeSelector       map[string]string
	podSecurity        *v1alpha1.PodSecurityLevel
	namespaceNames     *v1alpha1.NamespaceNames
	ingressClass       *string // empty: none
	nodeName           string  // empty: as it is, or spillway- and the name
	nodeLabels         map[string]string
	tunnel             *v1alpha1.TunnelMode
	via                *v1alpha1.APIRoute
	endpoints          []string // nil: not said; empty: those that are found
	remoteEndpoints    []string // likewise, of the provider
	timeout            time.Duration
	format             string
}

func peerCommand(term terminal) *cobra.Command {
	f := &peerFlags{}
	cmd := &cobra.Command{
		Use:   "peer",
		Short: "Let this cluster run pods in another one",
		Long: `Peer makes the cluster of --context (the consumer) borrow from the cluster of --remote-context (the provider), which then
appears as a virtual node. A spillwayd controller has to run in both. Peer writes one Peering in each cluster and one
Secret in the consumer, shows each step, and ends when the virtual node is Ready.

When both clusters have a node labelled spillway.dev/gateway, a tunnel joins their pod networks as well, and peer waits
until packets pass in both directions. --tunnel External is for networks that are joined otherwise, --tunnel Off for
clusters whose pods need not reach each other.

Repeating it changes only what differs; what you do not say again stays as it is. To let pods go the other way as well,
run it once more with the contexts exchanged.`,
		Example: `  # borrow everything that is free in the cluster of context cloud
  spillway peer --context home --remote-context cloud

  # at most 80 % of what its pool "lend" has free, and never more than 32 CPUs
  spillway peer --remote-context cloud --share 80% --share-resources cpu=32 --share-node-selector pool=lend

  # the provider in a file of its own, reached by the consumer's pods at another address than from here
  spillway peer --remote-kubeconfig cloud.yaml --remote-server https://203.0.113.7:6443

  # a tunnel to a provider behind a load balancer; home is behind NAT and begins; the API server needs no open port
  spillway peer --remote-context cloud --tunnel Tunnel --endpoint none --remote-endpoint vpn.example.org:51820 --api-via tunnel

  # for a script
  spillway peer --context home --remote-context cloud -o json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed
			wish, err := f.parse()
			if err != nil {
				return err
			}
			return runPeer(cmd.Context(), term, wish)
		},
	}
	f.register(cmd)
	return cmd
}

func (f *peerFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	addAccessFlags(flags, &f.local, &f.remote)
	flags.StringVar(&f.remoteServer, "remote-server", "", "address of the provider's API server as this cluster's pods see it (default: the one in the kubeconfig)")
	flags.StringVar(&f.name, "name", "", "name of the Peering in this cluster (default: from the remote context's name)")
	flags.StringVar(&f.consumerName, "consumer-name", "", "name of the Peering in the provider (default: from the local context's name)")
	flags.StringVar(&f.share, "share", "", "percent of what is free that the provider shares, for example 80 (default 100)")
	flags.StringVar(&f.shareResources, "share-resources", "", "the most the provider shares in all, for example cpu=32,memory=64Gi (default: no bound)")
	flags.StringVar(&f.nodeSelector, "share-node-selector", "", "labels of the nodes the provider shares, for example pool=lend (default: all nodes)")
	flags.StringVar(&f.podSecurity, "pod-security", "", "Pod Security level at the provider: privileged, baseline or restricted (default baseline)")
	flags.BoolVar(&f.sameNamespaces, "same-namespaces", false, "call namespaces at the provider as at home where the name is free there, so that names of Services mean the same")
	flags.StringVar(&f.ingressClass, "ingress-class", "", "class by which the provider serves Ingresses of offloaded namespaces, which then follow (default: none do)")
	flags.StringVar(&f.nodeName, "node-name", "", "name of the virtual node (default: spillway- and the name of the Peering)")
	flags.StringVar(&f.nodeLabels, "node-labels", "", "labels for the virtual node, for example tier=remote,cost=low")
	flags.StringVar(&f.tunnel, "tunnel", "", "how pod networks are joined: Tunnel, External or Off (default: as it is; at first Tunnel if both clusters have gateways, else Off)")
	flags.StringArrayVar(&f.endpoints, "endpoint", nil, "where the provider reaches this cluster's gateways: HOST:PORT, again for each further slot; none: it cannot; auto: as found (default auto)")
	flags.StringArrayVar(&f.remoteEndpoints, "remote-endpoint", nil, "where this cluster reaches the provider's gateways, likewise")
	flags.StringVar(&f.via, "api-via", "", "way from this cluster to the provider's API server: direct or tunnel (default: as it is; at first direct)")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait for the virtual node and the tunnel in all")
	flags.StringVarP(&f.format, "output", "o", "", "print one object at the end, as json or yaml (the steps then go to stderr)")
}

// parse turns what was typed into a wish that cannot be wrong in itself.
func (f *peerFlags) parse() (peerWish, error) {
	wish := peerWish{
		local: f.local, remote: remoteAccess(f.local, f.remote), remoteServer: f.remoteServer, timeout: f.timeout, format: f.format,
		name: f.name, consumerName: f.consumerName, nodeName: f.nodeName,
	}
	if f.remote == (access{}) {
		return wish, usagef("Name its kubeconfig context: --remote-context NAME (and --remote-kubeconfig FILE if it is in another file).",
			"it is not said which cluster to peer with")
	}
	if f.timeout <= 0 {
		return wish, usagef("Give a time like 60s or 2m.", "--timeout %s is not a time to wait", f.timeout)
	}
	for _, err := range []error{checkFormat(f.format, formatJSON, formatYAML), f.checkNames(), f.parseShare(&wish), f.parseTunnel(&wish)} {
		if err != nil {
			return wish, err
		}
	}
	if f.given("node-labels") {
		labels, err := parseLabels("--node-labels", f.nodeLabels)
		if err != nil {
			return wish, err
		}
		wish.nodeLabels = labels
	}
	return wish, nil
}

func (f *peerFlags) checkNames() error {
	if f.given("name") {
		if err := checkName("--name", f.name); err != nil {
			return err
		}
	}
	if f.given("consumer-name") {
		if err := checkName("--consumer-name", f.consumerName); err != nil {
			return err
		}
	}
	if f.given("node-name") {
		if err := checkNodeName(f.nodeName); err != nil {
			return err
		}
	}
	if f.given("remote-server") {
		if err := checkServer("--remote-server", f.remoteServer); err != nil {
			return usagef("Give an address like https://203.0.113.7:6443.", "--remote-server %q is not an https address", f.remoteServer)
		}
	}
	return nil
}

func (f *peerFlags) parseShare(wish *peerWish) error {
	if f.given("share") {
		percent, err := parsePercent(f.share)
		if err != nil {
			return err
		}
		wish.percent = &percent
	}
	if f.given("share-resources") {
		resources, err := parseResources("--share-resources", f.shareResources)
		if err != nil {
			return err
		}
		wish.resources = &resources
	}
	if f.given("share-node-selector") {
		selector, err := parseLabels("--share-node-selector", f.nodeSelector)
		if err != nil {
			return err
		}
		wish.nodeSelector = selector
	}
	if f.given("pod-security") {
		level, err := parsePodSecurity(f.podSecurity)
		if err != nil {
			return err
		}
		wish.podSecurity = &level
	}
	if f.given("same-namespaces") {
		names := v1alpha1.NamespaceNamesSuffixed
		if f.sameNamespaces {
			names = v1alpha1.NamespaceNamesSameIfFree
		}
		wish.namespaceNames = &names
	}
	if f.given("ingress-class") {
		if err := checkIngressClass(f.ingressClass); err != nil {
			return err
		}
		wish.ingressClass = &f.ingressClass
	}
	return nil
}

func (f *peerFlags) parseTunnel(wish *peerWish) (err error) {
	if f.given("tunnel") {
		mode, err := parseMode(f.tunnel)
		if err != nil {
			return err
		}
		wish.tunnel = &mode
	}
	if f.given("api-via") {
		via, err := parseVia(f.via)
		if err != nil {
			return err
		}
		wish.via = &via
	}
	if f.given("endpoint") {
		if wish.endpoints, err = parseEndpoints("--endpoint", f.endpoints); err != nil {
			return err
		}
	}
	if f.given("remote-endpoint") {
		wish.remoteEndpoints, err = parseEndpoints("--remote-endpoint", f.remoteEndpoints)
	}
	return err
}
