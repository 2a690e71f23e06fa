package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/spf13/pflag"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"

	"github.com/spillway-dev/spillway/provider/kubelet"
)

const (
	// kubeletPort is where the ports of virtual nodes begin: past those of a kubelet and of what stands beside it.
	kubeletPort = 10350
	// authenticationConfigMap is where the API server says whose client certificates count, to everything that answers for it.
	authenticationConfigMap = "extension-apiserver-authentication"
	clientCAKey             = "client-ca-file"
)

// kubeletOptions are the flags of the virtual nodes' kubelet APIs.
type kubeletOptions struct {
	address           string
	port              uint16
	certFile, keyFile string
	approve           bool
}

func (o *kubeletOptions) addTo(f *pflag.FlagSet) {
	f.StringVar(&o.address, "kubelet-address", "",
		"serve the kubelet APIs of virtual nodes at this address of this machine or pod, for example $(POD_IP); the API server and whoever scrapes metrics have to reach it, and the pods on virtual nodes show it as their hostIP (default: no kubelet API: no logs, exec or metrics)")
	f.Uint16Var(&o.port, "kubelet-port", kubeletPort,
		"first port at kubelet-address: each virtual node has the first that is free from here on, and keeps it")
	f.StringVar(&o.certFile, "kubelet-cert-file", "",
		"PEM certificate for kubelet-address, of an authority that the API server trusts for kubelets; read again when it changes (default: one of the cluster's signer kubernetes.io/kubelet-serving)")
	f.StringVar(&o.keyFile, "kubelet-key-file", "", "PEM key of kubelet-cert-file")
	f.BoolVar(&o.approve, "kubelet-approve", true,
		"approve the own requests to kubernetes.io/kubelet-serving; otherwise somebody else has to, again with each renewal")
}

// parse gives the address to serve at; not valid: nowhere.
func (o *kubeletOptions) parse() (at netip.Addr, err error) {
	if (o.certFile == "") != (o.keyFile == "") {
		return at, fmt.Errorf("--kubelet-cert-file and --kubelet-key-file go together: give both or none")
	}
	if o.address == "" {
		if o.certFile != "" {
			return at, fmt.Errorf("--kubelet-cert-file needs --kubelet-address: where to serve with it")
		}
		return at, nil
	}
	at, err = netip.ParseAddr(o.address)
	switch at = at.Unmap(); {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("--kubelet-address %q: give an IP address such as 192.0.2.7", o.address)
	case at.IsUnspecified() || at.IsMulticast() || at.Zone() != "":
		return netip.Addr{}, fmt.Errorf("--kubelet-address %s: give the one address at which the API server reaches this process; the Node objects say it", o.address)
	case o.port == 0:
		return netip.Addr{}, fmt.Errorf("--kubelet-port 0: give the first of the ports to use")
	}
	return at, nil
}

// kubelets makes the kubelet APIs of virtual nodes.
type kubelets struct {
	cfg   kubelet.ServerConfig
	auth  *kubelet.Auth
	usage kubelet.Usage
	log   *zap.Logger
}

// start keeps what all listeners share, the certificate and whose clients count, until ctx ends. Every replica does, so that a new
// leader serves at once. Nil when there is no kubelet API.
func (o *kubeletOptions) start(ctx context.Context, client kubernetes.Interface, log *zap.Logger) (*kubelets, error) {
	at, err := o.parse()
	if err != nil || !at.IsValid() {
		return nil, err
	}
	certificate, err := kubelet.NewCertificate(kubelet.CertificateConfig{
		CertFile: o.certFile, KeyFile: o.keyFile, Client: client, Name: "spillway", Address: at, Approve: o.approve, Log: log,
	})
	if err != nil {
		return nil, err
	}
	clientCA, err := dynamiccertificates.NewDynamicCAFromConfigMapController(
		"client-ca", metav1.NamespaceSystem, authenticationConfigMap, clientCAKey, client)
	if err != nil {
		return nil, fmt.Errorf("follow ConfigMap %s/%s: %w", metav1.NamespaceSystem, authenticationConfigMap, err)
	}
	go clientCA.Run(ctx, 1)
	go func() {
		if err := certificate.Run(ctx); err != nil {
			log.Error("the kubelet API gets no certificate", zap.Error(err))
		}
	}()
	auth, err := kubelet.NewAuth(kubelet.AuthConfig{Client: client, ClientCA: clientCA})
	if err != nil {
		return nil, err
	}
	k := &kubelets{auth: auth, usage: kubelet.NewUsage(kubelet.UsageConfig{Log: log}), log: log}
	k.cfg = kubelet.ServerConfig{Address: at, FirstPort: o.port, Certificate: certificate.Get, Handler: k.handler, Log: log}
	return k, nil
}

// server is for one term of this replica; nil when there is no kubelet API.
func (k *kubelets) server() *kubelet.Server {
	if k == nil {
		return nil
	}
	return kubelet.NewServer(k.cfg)
}

// handler answers for a node.
func (k *kubelets) handler(node kubelet.Node) (http.Handler, error) {
	return kubelet.NewHandler(kubelet.HandlerConfig{Node: node, Auth: k.auth.Node(node.Name()), Usage: k.usage, Log: k.log}), nil
}
