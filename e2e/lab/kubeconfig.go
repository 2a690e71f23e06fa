package lab

import (
	"fmt"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	api "k8s.io/client-go/tools/clientcmd/api"
)

// access is one way into a cluster: where, trusting whom, as whom.
type access struct {
	name      string
	server    string
	ca        []byte
	cert, key []byte
	token     string
}

// kubeconfigOf makes a kubeconfig with one context per access; the first is
// the current one.
func kubeconfigOf(accesses ...access) *api.Config {
	c := api.NewConfig()
	for _, a := range accesses {
		c.Clusters[a.name] = &api.Cluster{Server: a.server, CertificateAuthorityData: a.ca}
		c.AuthInfos[a.name] = &api.AuthInfo{
			ClientCertificateData: a.cert, ClientKeyData: a.key, Token: a.token,
		}
		c.Contexts[a.name] = &api.Context{Cluster: a.name, AuthInfo: a.name}
	}
	if len(accesses) > 0 {
		c.CurrentContext = accesses[0].name
	}
	return c
}

func writeKubeconfig(path string, accesses ...access) error {
	if err := clientcmd.WriteToFile(*kubeconfigOf(accesses...), path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// restConfig is the same for client-go, without a client-side limit.
func (a access) restConfig() *rest.Config {
	return &rest.Config{
		Host:        a.server,
		BearerToken: a.token,
		TLSClientConfig: rest.TLSClientConfig{
			CAData: a.ca, CertData: a.cert, KeyData: a.key,
		},
		UserAgent: userAgent,
		QPS:       -1,
	}
}

// userAgent is how the lab's own requests are recognised.
const userAgent = "spillway-lab"
