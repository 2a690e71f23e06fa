package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/cmd/spillwayd/leader"
	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/peering/admission"
	"github.com/spillway-dev/spillway/provider"
)

const (
	systemNamespace = "spillway-system"
	leaseName       = "spillwayd"
)

// controllerOptions are the flags of spillwayd controller.
type controllerOptions struct {
	kubeconfig, context string
	identity            string
	debugAddress        string
	logLevel            string
	network             networkOptions
	webhook             webhookOptions
	kubelet             kubeletOptions
	usage               usageOptions
	health              healthOptions
	tracing             tracingOptions
}

func controllerCommand() *cobra.Command {
	var o controllerOptions
	cmd := &cobra.Command{
		Use:   "controller",
		Short: "Keep peerings, virtual nodes and the pods on them",
		Long: "Keeps every Peering of the cluster it runs in: as provider the tenants' identities, namespaces and quotas, as\n" +
			"consumer the virtual nodes and the pods bound to them. One process serves all peers.",
		Example: "  spillwayd controller                                          # in a cluster\n" +
			"  spillwayd controller --kubeconfig ~/.kube/config --context east   # beside one",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runController(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster to work for (default: the cluster this runs in)")
	f.StringVar(&o.context, "context", "", "context of the kubeconfig (default: its current one)")
	f.StringVar(&o.identity, "identity", ownName(),
		"name of this replica in the leader election; a restart under the same name goes on at once (default: $POD_NAME, or the host's name)")
	f.StringVar(&o.debugAddress, "debug-address", "", "serve profiles (/debug/pprof) on this address, for example 127.0.0.1:6060 (default: off)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.network.addTo(f)
	o.webhook.addTo(f)
	o.kubelet.addTo(f)
	o.usage.addTo(f)
	o.health.addTo(f)
	o.tracing.addTo(f)
	return cmd
}

func runController(ctx context.Context, o controllerOptions) error {
	log, err := newLogger(o.logLevel)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // stderr may be a pipe that cannot be synced
	network, err := o.network.parse()
	if err != nil {
		return err
	}
	if _, err := o.usage.parse(); err != nil {
		return err
	}
	config, err := restConfig(o)
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
	clusterID, err := peering.ClusterID(ctx, client)
	if err != nil {
		return err
	}
	if err := ensureSystemNamespace(ctx, client); err != nil {
		return err
	}
	flush, err := o.tracing.start(ctx, o.identity, clusterID)
	if err != nil {
		return err
	}
	defer flush()
	return o.stand(ctx, peering.Config{
		REST: config, Client: client, ClusterID: clusterID, Network: network, Log: log.With(zap.String("cluster", clusterID)),
	})
}

// stand answers what every replica answers, and works while this one leads, until ctx ends. It then goes on answering for a while:
// the API server asks those that it knew of some moments ago.
func (o *controllerOptions) stand(ctx context.Context, cfg peering.Config) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var answering sync.WaitGroup
	defer answering.Wait()
	answer, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	listener, err := o.health.listen()
	if err != nil {
		return err
	}
	policies, webhook, err := o.webhook.start(answer, cfg, &answering)
	if err != nil {
		return err
	}
	cfg.Policies = policies
	kubelets, err := o.kubelet.start(answer, cfg.Client, cfg.Log)
	if err != nil {
		return err
	}
	candidate := leader.New(leader.Config{
		Client: cfg.Client, Namespace: systemNamespace, Lease: leaseName, Identity: o.identity, Port: portOf(listener), Log: cfg.Log,
	})
	var unheard error // written before ctx is cancelled
	if listener != nil {
		h := &health{listener: listener, alive: candidate.Healthy, ready: readiness(ctx, policies, webhook), log: cfg.Log}
		answering.Go(func() {
			if unheard = h.run(answer, candidate); unheard != nil {
				cancel() // who does not answer here counts as ended
			}
		})
	}
	err = candidate.Run(ctx, func(ctx context.Context) error { return serve(ctx, webhook, kubelets, o.usage, cfg) })
	if err != nil {
		return err
	}
	select {
	case <-time.After(o.health.drain):
	case <-answer.Done():
	}
	stop()
	answering.Wait()
	return unheard
}

// readiness says whether a replica can answer the API server and take over, and is not told to stop.
func readiness(ctx context.Context, policies *peering.Policies, webhook *admission.Server) func(*http.Request) error {
	return func(*http.Request) error {
		switch {
		case ctx.Err() != nil:
			return errors.New("told to stop")
		case !policies.Synced():
			return errors.New("the OffloadPolicies and Migrations are not known yet")
		case webhook != nil && !webhook.Ready():
			return errors.New("the webhook has no certificate yet: the leader makes it")
		}
		return nil
	}
}

// ownName is what this replica is called unless it is told.
func ownName() string {
	if pod := os.Getenv("POD_NAME"); pod != "" {
		return pod
	}
	if host, err := os.Hostname(); err == nil {
		return host
	}
	return "spillwayd"
}

// restConfig reaches the cluster to work for, without a rate limit: the loops pace themselves.
func restConfig(o controllerOptions) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		rules, &clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("find the cluster to work for: %w (give --kubeconfig, or run inside a cluster)", err)
	}
	config.QPS = -1
	config.UserAgent = "spillwayd"
	measureHome(config)
	return config, nil
}

func ensureSystemNamespace(ctx context.Context, client kubernetes.Interface) error {
	_, err := client.CoreV1().Namespaces().Get(ctx, systemNamespace, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	_, err = client.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace %s: %w", systemNamespace, err)
	}
	return nil
}

// serve wires the packages and works until ctx ends. webhook and kubelets may be nil.
func serve(ctx context.Context, webhook *admission.Server, kubelets *kubelets, usage usageOptions, cfg peering.Config) error {
	defer leading()()
	events := record.NewBroadcaster()
	events.StartRecordingToSink(&typedcore.EventSinkImpl{Interface: cfg.Client.CoreV1().Events("")})
	defer events.Shutdown()

	recorder := events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "spillway"})
	var controller *peering.Controller
	nodes := provider.NewNodes(provider.Config{
		Client: cfg.Client, ClusterID: cfg.ClusterID, Rules: rules{cfg.Policies}, Log: cfg.Log,
		VolumeNamespace: systemNamespace, Kubelet: kubelets.server(),
		Changed: func(peer string) { controller.Wake(peer) },
		Events:  recorder,
	})
	cfg.Nodes = virtualNodes{nodes}
	controller, err := peering.New(cfg)
	if err != nil {
		return err
	}
	placer, err := newPlacer(cfg, nodes, recorder, webhook != nil)
	if err != nil {
		return err
	}
	stopped, err := usage.start(ctx, cfg, controller)
	if err != nil {
		return err
	}
	defer stopped()
	ready, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		nodes.Run(ctx, ready)
	}()
	<-ready
	var placing sync.WaitGroup
	placing.Go(func() { placer.Run(ctx) })
	defer placing.Wait() // before another replica may lead
	defer cfg.Policies.Notify(nodes.RulesChanged)()
	if webhook != nil {
		var registering sync.WaitGroup
		registering.Go(func() { webhook.Register(ctx) })
		defer registering.Wait() // before another replica may lead
	}
	controller.Run(ctx)
	<-done
	return nil
}

// virtualNodes lets the peering controller show peers through package provider.
type virtualNodes struct{ nodes *provider.Nodes }

func (v virtualNodes) Ensure(n peering.Node) { v.nodes.Ensure(provider.Peer(n)) }

func (v virtualNodes) Pods() ([]*corev1.Pod, bool) { return v.nodes.Pods() }

func (v virtualNodes) Namespace(name string) (*corev1.Namespace, bool) {
	return v.nodes.Namespace(name)
}

func (v virtualNodes) State(peer string) (peering.NodeState, bool) {
	s, ok := v.nodes.State(peer)
	return peering.NodeState{Registered: s.Registered, Err: s.Err, Wanted: s.Wanted}, ok
}

func (v virtualNodes) Remove(ctx context.Context, peer, nodeName string, force bool) (bool, int, error) {
	return v.nodes.Remove(ctx, peer, nodeName, force)
}

// serveDebug serves profiles until the process ends.
func serveDebug(address string, log *zap.Logger) {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Warn("profiles are no longer served", zap.Error(server.ListenAndServe()))
}
