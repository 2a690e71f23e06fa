package kubelet

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/spillway-dev/spillway/e2e/duo"
	"github.com/spillway-dev/spillway/e2e/lab"
)

func (w *world) rights(t *testing.T) {
	t.Run("of a user at home", w.userAtHome)
	t.Run("at the virtual kubelet", w.atTheKubelet)
	t.Run("of the tenant", w.tenant)
}

// user is somebody of home with a certificate and no rights but those that bindings give.
func (w *world) user(t *testing.T, name string) end {
	t.Helper()
	cert, key, err := w.Lab.Cluster(duo.East).Issue(name, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(w.home.config)
	config.CertData, config.KeyData = cert, key
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return end{name: name, config: config, kube: kube, namespace: namespace}
}

// userAtHome: who may read logs and no more can do just that, whatever the provider would let the tenant do.
func (w *world) userAtHome(t *testing.T) {
	reader := w.user(t, "reader")
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: "reader"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "pods/log"}, Verbs: []string{"get", "list"}},
	}}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "reader"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "reader"}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
	}
	if _, err := w.Home.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Home.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, func(ctx context.Context) error {
		_, err := reader.log(ctx, "talker", &corev1.PodLogOptions{Container: "lines"})
		return err
	})
	for _, protocol := range protocols() {
		out := remotecommand.StreamOptions{Stdout: io.Discard, Stderr: io.Discard}
		forbidden(t, protocol+" exec", reader.run(t.Context(), protocol, "tool", "main", out, "true"))
		forbidden(t, protocol+" attach", reader.attach(t.Context(), protocol, "tool", "reader", out))
		f, err := reader.forwarder(protocol, "network", []string{"0:7"}, make(chan struct{}), make(chan struct{}), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		forbidden(t, protocol+" port-forward", f.ForwardPorts())
	}
}

func forbidden(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), "forbidden") {
		t.Errorf("%s: %v", what, err)
	}
}

// atTheKubelet: it serves with a certificate of the cluster, and nobody without rights on nodes.
func (w *world) atTheKubelet(t *testing.T) {
	node, err := w.Home.CoreV1().Nodes().Get(t.Context(), duo.VirtualNode, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host := "https://" + net.JoinHostPort(internalIP(node), strconv.Itoa(int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)))
	anonymous := rest.AnonymousClientConfig(w.home.config)
	wrong, foreign := rest.CopyConfig(anonymous), rest.CopyConfig(anonymous)
	wrong.BearerToken = "wrong"
	cert, key, err := w.Lab.Cluster(duo.West).Issue("admin", []string{"system:masters"}, nil) // of the other cluster's authority
	if err != nil {
		t.Fatal(err)
	}
	foreign.CertData, foreign.KeyData = cert, key
	for _, row := range []struct {
		name   string
		config *rest.Config
		want   []int
	}{
		{"nobody", anonymous, []int{http.StatusUnauthorized}},
		{"a wrong token", wrong, []int{http.StatusUnauthorized}},
		{"an administrator of the peer", foreign, []int{http.StatusUnauthorized, 0}}, // 0: not even a handshake
		{"a user without rights on nodes", w.user(t, "stranger").config, []int{http.StatusForbidden}},
		{"an administrator", w.home.config, []int{http.StatusOK}},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, err := rest.HTTPClientFor(row.config)
			if err != nil {
				t.Fatal(err)
			}
			client.Timeout = soon
			for _, path := range []string{"/pods", "/runningpods/", "/stats/summary", "/metrics/resource", "/metrics/cadvisor",
				"/containerLogs/" + namespace + "/talker/lines?tailLines=1"} {
				expectStatus(t, client, host+path, row.want)
			}
			if row.want[0] != http.StatusOK {
				for _, path := range []string{"/exec/" + namespace + "/tool/main?command=/app&command=true&output=1", "/run/" + namespace + "/tool/main?cmd=/app"} {
					expectStatus(t, client, host+path, row.want)
				}
			}
		})
	}
}

func internalIP(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

func expectStatus(t *testing.T, client *http.Client, url string, want []int) {
	t.Helper()
	got := 0
	response, err := client.Get(url)
	if err == nil {
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		got = response.StatusCode
	}
	for _, ok := range want {
		if got == ok {
			return
		}
	}
	t.Errorf("%s: %d, want %v: %v", url, got, want, err)
}

// tenant: what the peer lets the consumer do.
func (w *world) tenant(t *testing.T) {
	user := ""
	accounts, err := w.Away.CoreV1().ServiceAccounts("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts.Items {
		if strings.HasPrefix(a.Namespace, "spillway-tenant-") && a.Name == "consumer" {
			user = "system:serviceaccount:" + a.Namespace + ":" + a.Name
		}
	}
	if user == "" {
		t.Fatal("the peer has no account of the consumer")
	}
	type attributes = authorizationv1.ResourceAttributes
	for _, row := range []struct {
		allowed bool
		what    attributes
	}{
		{true, attributes{Namespace: w.away.namespace, Verb: "create", Resource: "pods", Subresource: "exec"}},
		{true, attributes{Namespace: w.away.namespace, Verb: "create", Resource: "pods", Subresource: "attach"}},
		{true, attributes{Namespace: w.away.namespace, Verb: "create", Resource: "pods", Subresource: "portforward"}},
		{true, attributes{Namespace: w.away.namespace, Verb: "get", Resource: "pods", Subresource: "log"}},
		{true, attributes{Namespace: lab.SpillwayNamespace, Verb: "get", Resource: "services", Subresource: "proxy", Name: "https:spillway-usage:usage"}},
		{false, attributes{Namespace: lab.SpillwayNamespace, Verb: "get", Resource: "services", Subresource: "proxy", Name: "another"}},
		{false, attributes{Namespace: lab.SpillwayNamespace, Verb: "create", Resource: "services", Subresource: "proxy", Name: "https:spillway-usage:usage"}},
		{false, attributes{Namespace: metav1.NamespaceSystem, Verb: "create", Resource: "pods", Subresource: "exec"}},
		{false, attributes{Namespace: metav1.NamespaceSystem, Verb: "get", Resource: "pods", Subresource: "log"}},
		{false, attributes{Namespace: metav1.NamespaceDefault, Verb: "create", Resource: "pods", Subresource: "attach"}},
		{false, attributes{Verb: "create", Resource: "pods", Subresource: "exec"}},
		{false, attributes{Verb: "get", Resource: "nodes"}},
		{false, attributes{Verb: "list", Resource: "nodes"}},
		{false, attributes{Verb: "get", Resource: "nodes", Subresource: "proxy"}},
		{false, attributes{Verb: "get", Resource: "nodes", Subresource: "metrics"}},
		{false, attributes{Verb: "get", Resource: "nodes", Subresource: "stats"}},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user, Groups: []string{"system:authenticated", "system:serviceaccounts"}, ResourceAttributes: &row.what,
		}}
		got, err := w.Away.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), review, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status.Allowed != row.allowed {
			t.Errorf("%s: allowed is %v, want %v", fmt.Sprintf("%+v", row.what), got.Status.Allowed, row.allowed)
		}
	}
	as := rest.CopyConfig(w.away.config)
	as.Impersonate = rest.ImpersonationConfig{UserName: user}
	tenant := end{name: "tenant", config: as, kube: w.Away, namespace: metav1.NamespaceSystem}
	pods, err := w.Away.CoreV1().Pods(metav1.NamespaceSystem).List(t.Context(), metav1.ListOptions{LabelSelector: "k8s-app=kube-dns"})
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("no pods of DNS: %v", err)
	}
	forbidden(t, "exec into DNS", tenant.run(t.Context(), webSocket, pods.Items[0].Name, "coredns", remotecommand.StreamOptions{Stdout: io.Discard}, "true"))
}
