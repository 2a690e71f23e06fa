package lab

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	// MetricsServer is the name of the component that a cluster with Metrics
	// has, for Component, Kill and Restart.
	MetricsServer = "metrics-server"
	// MetricsResolution is how often it asks the kubelets: the least it takes.
	MetricsResolution = 10 * time.Second
	// AutoscalerPeriod is how often the autoscalers of a cluster with Metrics
	// look. Kubernetes' own default, 15 s, is made for metrics every 15 s.
	AutoscalerPeriod = 5 * time.Second
)

// metricsManifest is metrics-server's own (manifests/base of its module), but
// for the Deployment, and for the way to it: it is no pod here, so the
// aggregator is sent to an address of the machine, and knows whom to expect.
const metricsManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: metrics-server, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: system:aggregated-metrics-reader
  labels:
    rbac.authorization.k8s.io/aggregate-to-view: "true"
    rbac.authorization.k8s.io/aggregate-to-edit: "true"
    rbac.authorization.k8s.io/aggregate-to-admin: "true"
rules:
- {apiGroups: [metrics.k8s.io], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: metrics-server-auth-reader, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "metrics-server:system:auth-delegator"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:auth-delegator"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "system:metrics-server"}
rules:
- {apiGroups: [""], resources: [nodes/metrics], verbs: [get]}
- {apiGroups: [""], resources: [pods, nodes], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "system:metrics-server"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:metrics-server"}
subjects: [{kind: ServiceAccount, name: metrics-server, namespace: kube-system}]
---
apiVersion: v1
kind: Service
metadata: {name: metrics-server, namespace: kube-system}
spec: {type: ExternalName, externalName: ADDRESS}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  service: {name: metrics-server, namespace: kube-system, port: PORT}
  caBundle: CABUNDLE
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
`

// metricsHost is the name that the aggregator expects in the certificate.
const metricsHost = "metrics-server.kube-system.svc"

// metricsArgs are those of its manifest, and what a process outside of the
// cluster has to be told.
func (l layout) metricsArgs() []string {
	kubeconfig := l.kubeconfig(MetricsServer)
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + l.metrics.ip,
		fmt.Sprintf("--secure-port=%d", l.metrics.number),
		"--permit-port-sharing=true",
		"--tls-cert-file=" + l.cert(MetricsServer),
		"--tls-private-key-file=" + l.key(MetricsServer),
		"--kubelet-certificate-authority=" + l.cert("ca"),
		"--kubelet-preferred-address-types=InternalIP",
		"--kubelet-use-node-status-port",
		"--node-selector=" + simulatedLabel + "!=true", // nobody listens at their addresses
		"--metric-resolution=" + MetricsResolution.String(),
		"--kubelet-request-timeout=" + (MetricsResolution - time.Second).String(), // has to be shorter
	}
}

func (l layout) metricsObjects(ca []byte) string {
	return strings.NewReplacer(
		"ADDRESS", l.metrics.ip,
		"PORT", fmt.Sprint(l.metrics.number),
		"CABUNDLE", base64.StdEncoding.EncodeToString(ca),
	).Replace(metricsManifest)
}

// startMetrics starts metrics-server, as the ServiceAccount it has in its own
// manifest, and waits until the API server answers metrics.k8s.io through it.
// It knows pods and nodes only after it has asked their kubelets twice.
func (c *Cluster) startMetrics(ctx context.Context) error {
	if !c.opts.Metrics {
		return nil
	}
	a, err := newApplier(c.Config())
	if err != nil {
		return err
	}
	// kube-system and its roles come a moment after /readyz.
	soon, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = poll(soon, 50*time.Millisecond, func(ctx context.Context) (bool, error) {
		err := a.apply(ctx, []byte(c.layout.metricsObjects(c.ca.certPEM)))
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("install metrics-server: %w", err)
	}
	as, err := c.tokenAccess(ctx, metav1.NamespaceSystem, MetricsServer)
	if err != nil {
		return err
	}
	if err := writeKubeconfig(c.layout.kubeconfig(MetricsServer), as); err != nil {
		return err
	}
	if err := c.start(MetricsServer, c.layout.metricsArgs()); err != nil {
		return err
	}
	if err := c.waitFor(ctx, MetricsServer, func(ctx context.Context) error { return metricsAvailable(ctx, a.client) }); err != nil {
		return err
	}
	c.lab.progress("cluster %s: metrics-server ready", c.Name())
	return nil
}

// metricsAvailable waits until the API server finds metrics-server.
func metricsAvailable(ctx context.Context, client dynamic.Interface) error {
	services := client.Resource(schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"})
	err := poll(ctx, 100*time.Millisecond, func(ctx context.Context) (bool, error) {
		s, err := services.Get(ctx, "v1beta1.metrics.k8s.io", metav1.GetOptions{})
		return err == nil && hasCondition(s, "Available"), err
	})
	if err != nil {
		return fmt.Errorf("wait for metrics-server: %w", err)
	}
	return nil
}

// tokenLife outlasts every lab: in a cluster, the kubelet would renew the
// token.
const tokenLife = 30 * 24 * time.Hour

// tokenAccess is the way of a ServiceAccount into its cluster.
func (c *Cluster) tokenAccess(ctx context.Context, namespace, account string) (access, error) {
	seconds := int64(tokenLife / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	token, err := c.client().CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return access{}, fmt.Errorf("request a token for %s: %w", account, err)
	}
	return access{name: c.Name(), server: c.admin.server, ca: c.admin.ca, token: token.Status.Token}, nil
}
