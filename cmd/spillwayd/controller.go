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
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/client-go/tools/record"

	"github.com/spillway-dev/spillway/peering"
	"github.com/spillway-dev/spillway/peering/admission"
	"github.com/spillway-dev/spillway/provider"
)

const (
	systemNamespace = "spillway-system"
	leaseName       = "spillwayd"

	leaseDuration = 15 * time.Second // a replica that stops answering is replaced after this
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
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
}

func controllerCommand() *cobra.Command {
	host, err := os.Hostname()
	if err != nil {
		host = "spillwayd"
	}
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
	f.StringVar(&o.identity, "identity", host, "name of this replica in the leader election; a restart under the same name goes on at once")
	f.StringVar(&o.debugAddress, "debug-address", "", "serve profiles (/debug/pprof) on this address, for example 127.0.0.1:6060 (default: off)")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.network.addTo(f)
	o.webhook.addTo(f)
	o.kubelet.addTo(f)
	o.usage.addTo(f)
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
	log = log.With(zap.String("cluster", clusterID))
	policies, webhook, err := o.webhook.start(ctx, config, client, log)
	if err != nil {
		return err
	}
	kubelets, err := o.kubelet.start(ctx, client, log)
	if err != nil {
		return err
	}
	for {
		err := lead(ctx, client, o.identity, log, func(ctx context.Context) error {
			return serve(ctx, webhook, kubelets, o.usage, peering.Config{
				REST: config, Client: client, ClusterID: clusterID, Policies: policies, Network: network, Log: log,
			})
		})
		if !errors.Is(err, errLeaseLost) {
			return err
		}
		log.Warn("standing by", zap.Error(err)) // everything has been stopped: a new term starts clean
	}
}

// errLeaseLost: another replica leads, or this cluster's API server did not answer for renewDeadline.
var errLeaseLost = errors.New("lost the Lease")

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

// lead runs work while this replica holds the Lease; it returns errLeaseLost when it no longer does and work has ended.
func lead(ctx context.Context, client kubernetes.Interface, identity string, log *zap.Logger, work func(context.Context) error) error {
	parent := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var workErr error // written before done is closed
	started, done := make(chan struct{}), make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: systemNamespace, Name: leaseName},
			Client:     client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: identity},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				close(started)
				defer close(done)
				defer cancel()
				log.Info("leading", zap.String("identity", identity))
				workErr = work(ctx)
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(leader string) {
				if leader != identity {
					log.Info("another replica leads", zap.String("leader", leader))
				}
			},
		},
	})
	if err != nil {
		return err
	}
	elector.Run(ctx)
	select {
	case <-started:
		<-done
	default:
	}
	if workErr == nil && parent.Err() == nil {
		return errLeaseLost
	}
	return workErr
}

// serve wires the packages and works until ctx ends. webhook and kubelets may be nil.
func serve(ctx context.Context, webhook *admission.Server, kubelets *kubelets, usage usageOptions, cfg peering.Config) error {
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
