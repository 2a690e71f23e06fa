package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/spillway-dev/spillway/internal/version"
	"github.com/spillway-dev/spillway/peering/v1alpha1/client"
)

// access says which context of which kubeconfig file to use. Empty: kubectl's defaults.
type access struct {
	kubeconfig string
	context    string
}

// cluster is one cluster as the user reaches it.
type cluster struct {
	role     string       // what the cluster is in this command: consumer, provider or cluster; for messages
	context  string       // name of the kubeconfig context
	server   string       // URL of the API server as in the kubeconfig
	caBundle []byte       // PEM; empty: the roots of the machine
	insecure bool         // the kubeconfig skips the check of the certificate
	id       string       // cluster id; empty until identify has read it
	config   *rest.Config // of the clients below; not to be changed
	kube     kubernetes.Interface
	peerings client.Peerings
	policies func(namespace string) client.Policies
	// migrations of a namespace; of all, to list and watch, for the empty name
	migrations func(namespace string) client.Migrations
	clock      *serverClock
}

// title names the cluster in sentences, for example `provider (context "cloud")`.
func (c *cluster) title() string {
	return fmt.Sprintf("the %s (context %q)", c.role, c.context)
}

// addAccessFlags adds the flags that choose the cluster at home and the one on the other side.
func addAccessFlags(flags *pflag.FlagSet, local, remote *access) {
	flags.StringVar(&local.context, "context", "", "kubeconfig context of this cluster (default: the current one)")
	flags.StringVar(&local.kubeconfig, "kubeconfig", "", "kubeconfig file (default: $KUBECONFIG or ~/.kube/config)")
	if remote == nil {
		return
	}
	flags.StringVar(&remote.context, "remote-context", "", "kubeconfig context of the other cluster")
	flags.StringVar(&remote.kubeconfig, "remote-kubeconfig", "", "kubeconfig file of the other cluster (default: the same as --kubeconfig)")
}

// remoteAccess is where the other cluster is to be found, given the flags of both: the same file unless another is
// named; the current context of the other file unless a context is named.
func remoteAccess(local, remote access) access {
	if remote.kubeconfig == "" {
		remote.kubeconfig = local.kubeconfig
	}
	return remote
}

// loadKubeconfig reads path, or where kubectl would look when path is empty.
func loadKubeconfig(path string) (*clientcmdapi.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	rules.WarnIfAllMissing = false
	looked := path
	if path == "" {
		looked = strings.Join(rules.GetLoadingPrecedence(), string(os.PathListSeparator))
	}
	raw, err := rules.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, problemf("Give the path of an existing file.", "there is no kubeconfig file %s", looked)
	case err != nil:
		return nil, problemf("Repair the file, or name another.", "the kubeconfig %s cannot be read: %s", looked, err)
	case len(raw.Contexts) == 0:
		return nil, problemf("Name one that has contexts with --kubeconfig.", "there is no kubeconfig with contexts at %s", looked)
	}
	return raw, nil
}

// contextName is the context to use in raw: want, or the current one when want is empty.
func contextName(raw *clientcmdapi.Config, want string) (string, error) {
	known := "Known contexts: " + strings.Join(contextNames(raw), ", ") + "."
	if want == "" {
		want = raw.CurrentContext
	}
	if want == "" {
		return "", problemf("Name the context. "+known, "the kubeconfig has no current context")
	}
	if _, ok := raw.Contexts[want]; !ok {
		return "", problemf(known, "the kubeconfig has no context %q", want)
	}
	return want, nil
}

func contextNames(raw *clientcmdapi.Config) []string {
	names := make([]string, 0, len(raw.Contexts))
	for name := range raw.Contexts {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// open reads the kubeconfig that a names and makes the clients for its cluster. It does not talk to the cluster.
func open(a access, role string) (*cluster, error) {
	raw, err := loadKubeconfig(a.kubeconfig)
	if err != nil {
		return nil, err
	}
	name, err := contextName(raw, a.context)
	if err != nil {
		return nil, err
	}
	return openContext(raw, name, role)
}

// openIn is open for a command that works in one namespace: the one given, or that of the context.
func openIn(a access, namespace string) (c *cluster, in string, err error) {
	raw, err := loadKubeconfig(a.kubeconfig)
	if err != nil {
		return nil, "", err
	}
	name, err := contextName(raw, a.context)
	if err != nil {
		return nil, "", err
	}
	in = cmp.Or(namespace, raw.Contexts[name].Namespace, metav1.NamespaceDefault)
	c, err = openContext(raw, name, "cluster")
	return c, in, err
}

// openContext makes the clients for the context name of raw. It does not talk to the cluster.
func openContext(raw *clientcmdapi.Config, name, role string) (*cluster, error) {
	config, err := clientcmd.NewNonInteractiveClientConfig(*raw, name, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, problemf("Repair that context in the kubeconfig, or use another.", "the context %q cannot be used: %s", name, err)
	}
	entry := raw.Clusters[raw.Contexts[name].Cluster]
	ca := entry.CertificateAuthorityData
	if len(ca) == 0 && entry.CertificateAuthority != "" {
		if ca, err = os.ReadFile(entry.CertificateAuthority); err != nil {
			return nil, problemf("Repair that context in the kubeconfig, or use another.", "the context %q cannot be used: %s", name, err)
		}
	}
	c := &cluster{role: role, context: name, server: entry.Server, caBundle: ca, insecure: entry.InsecureSkipTLSVerify, clock: &serverClock{}}
	return c, c.connect(config)
}

// connect makes c's clients. The config is copied.
func (c *cluster) connect(config *rest.Config) error {
	config = rest.CopyConfig(config)
	config.UserAgent = "spillway/" + version.Version()
	config.QPS, config.Burst = 50, 100 // a command makes a few dozen requests at most; never wait for ourselves
	config.WarningHandler = rest.NoWarnings{}
	config.Wrap(c.clock.wrap)
	c.config = config
	kube, err := kubernetes.NewForConfig(config)
	if err == nil {
		c.kube = kube
		c.peerings, err = client.New(config)
	}
	if err == nil {
		c.policies, err = client.NewPolicies(config)
	}
	if err == nil {
		c.migrations, err = client.NewMigrations(config)
	}
	if err != nil {
		return problemf("Repair that context in the kubeconfig, or use another.", "the context %q cannot be used: %s", c.context, err)
	}
	return nil
}

// contextsOf lists the contexts of raw that point at the API server with this URL or this certificate authority,
// sorted by name. Whether the cluster behind one is really the one looked for is for the caller to check.
func contextsOf(raw *clientcmdapi.Config, server string, ca []byte) []string {
	var names []string
	for _, name := range contextNames(raw) {
		entry, ok := raw.Clusters[raw.Contexts[name].Cluster]
		if !ok {
			continue
		}
		sameCA := len(ca) > 0 && bytes.Equal(bytes.TrimSpace(entry.CertificateAuthorityData), bytes.TrimSpace(ca))
		if sameServer(entry.Server, server) || sameCA {
			names = append(names, name)
		}
	}
	return names
}

// sameServer compares two URLs of API servers.
func sameServer(a, b string) bool {
	ua, errA := url.Parse(a)
	ub, errB := url.Parse(b)
	if errA != nil || errB != nil || ua.Host == "" {
		return a == b
	}
	port := func(u *url.URL) string {
		if u.Port() == "" && u.Scheme == "https" {
			return "443"
		}
		return u.Port()
	}
	return ua.Scheme == ub.Scheme && strings.EqualFold(ua.Hostname(), ub.Hostname()) && port(ua) == port(ub) &&
		strings.TrimSuffix(ua.Path, "/") == strings.TrimSuffix(ub.Path, "/")
}
