package joined

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHomeAPI: a twin has a token of home, and reaches home's API server with it, as a client in a cluster does.
func TestHomeAPI(t *testing.T) {
	w := theWorld(t)
	ns := w.namespace(t)
	away := w.pods(t, ns, "away", west, 1)[0]
	remote := w.remoteNamespace(t, west, ns)
	twin, err := w.sides[west].kube.CoreV1().Pods(remote).Get(t.Context(), away.pod, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(twin.Spec.HostAliases) != 1 || !strings.Contains(fmt.Sprint(twin.Spec.Containers[0].Env), "KUBERNETES_SERVICE_HOST") {
		t.Fatalf("the twin does not know where home's API server is: %v, %v", twin.Spec.HostAliases, twin.Spec.Containers[0].Env)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr(twin.Spec.HostAliases[0].IP), 443)
	var secret *corev1.Secret
	for _, v := range twin.Spec.Volumes {
		if v.Projected == nil || v.Projected.Sources[0].Secret == nil {
			continue
		}
		if secret, err = w.sides[west].kube.CoreV1().Secrets(remote).Get(t.Context(), v.Projected.Sources[0].Secret.Name, metav1.GetOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if secret == nil {
		t.Fatalf("no volume holds a token: %+v", twin.Spec.Volumes)
	}
	ask := call{Proto: "api", To: at, Name: "/api/v1/namespaces/" + ns + "/pods", Token: string(secret.Data["token-0"]), CA: string(secret.Data["ca.crt"])}
	who := "system:serviceaccount:" + ns + ":default"
	eventually(t, soon, "home's API server answers", func(context.Context) error {
		if a := away.call(ask); !strings.Contains(a.Source, who) {
			return fmt.Errorf("%s says %q %s", at, a.Source, a.Error)
		}
		return nil
	})
	if err := w.sides[east].kube.CoreV1().Pods(ns).Delete(t.Context(), away.pod, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the token goes with its pod", func(ctx context.Context) error {
		if _, err := w.sides[west].kube.CoreV1().Secrets(remote).Get(ctx, secret.Name, metav1.GetOptions{}); err == nil {
			return fmt.Errorf("%s is still there", secret.Name)
		}
		return nil
	})
	t.Logf("a twin asks home's API server at %s, and is %s there", at, who)
}

// api asks an API server as a client in a pod does: with a token, checking the certificate.
func (c call) api() answered {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(c.CA))
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, c.To.String())
		},
	}}
	req, err := http.NewRequest(http.MethodGet, "https://kubernetes.default.svc"+c.Name, nil)
	if err != nil {
		return answered{Error: err.Error()}
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := client.Do(req)
	if err != nil {
		return answered{Error: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answered{Error: err.Error()}
	}
	return answered{Source: string(body)}
}
