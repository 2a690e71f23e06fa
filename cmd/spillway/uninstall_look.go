package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/spillway-dev/spillway/charts"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

const (
	volumeProvisioner = "spillway.dev/volumes" // of StorageClasses whose claims Spillway serves
	controllerUser    = "system:serviceaccount:" + v1alpha1.SystemNamespace + ":spillwayd"
)

// traces are what there is of Spillway in a cluster. All are sorted.
type traces struct {
	Release   string   `json:"release,omitempty"`   // version and status
	Peerings  []string `json:"peerings,omitempty"`  // their names
	Offloaded []string `json:"offloaded,omitempty"` // namespace/name of own pods that run in peers
	Guests    []string `json:"guests,omitempty"`    // namespace/name of pods of other clusters that run here, and of their claims
	Claims    []string `json:"claims,omitempty"`    // namespace/name of PersistentVolumeClaims of Spillway's classes
	Objects   []string `json:"objects,omitempty"`   // what the chart makes, as kind namespace/name
	Made      []string `json:"made,omitempty"`      // what was made while it ran

	peerings []v1alpha1.Peering
	chart    []*resource.Info
	nodes    []corev1.Node // virtual
	gateways []string      // nodes that install labelled
	tenants  []string      // ids in labels of what was made for tenants
	requests []string      // CertificateSigningRequests
	kinds    []string      // CRDs
	rooms    []corev1.Namespace
}

// none says whether there is nothing.
func (t traces) none() bool {
	return t.Release == "" && len(t.Peerings) == 0 && len(t.Offloaded) == 0 && len(t.Guests) == 0 && len(t.Objects) == 0 && len(t.Made) == 0
}

// lines tell t to people.
func (t traces) lines() []string {
	var lines []string
	add := func(n int, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	add(len(t.Release), "release %s", t.Release)
	add(len(t.Peerings), "%s to be ended: %s", plural(len(t.Peerings), "Peering"), strings.Join(t.Peerings, ", "))
	add(len(t.Offloaded), "%s in peers to come home or be lost with their node", plural(len(t.Offloaded), "pod"))
	add(len(t.Guests), "%s of other clusters (pods and claims)", plural(len(t.Guests), "object"))
	add(len(t.Objects), "%s of the chart", plural(len(t.Objects), "object"))
	add(len(t.Made), "made since: %s", inShort(t.Made))
	return lines
}

// look finds what there is.
func (u *uninstallRun) look(ctx context.Context) (traces, error) {
	var t traces
	if u.had != nil {
		t.Release = fmt.Sprintf("%s (revision %d, %s)", u.had.Chart.Metadata.Version, u.had.Version, u.had.Info.Status)
	}
	for _, step := range []func(context.Context, *traces) error{
		u.lookAtKinds, u.lookAtPeerings, u.lookAtNodes, u.lookAtGuests, u.lookAtClaims, u.lookAtTenants, u.lookAtRequests, u.lookAtNamespaces, u.lookAtChart,
	} {
		if err := step(ctx, &t); err != nil {
			return t, err
		}
	}
	slices.Sort(t.Made)
	slices.Sort(t.Offloaded)
	slices.Sort(t.Guests)
	return t, nil
}

// lookAtKinds finds the CRDs by their group: older versions may have had others.
func (u *uninstallRun) lookAtKinds(ctx context.Context, t *traces) error {
	list, err := listNames(ctx, u.home, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", "")
	if err != nil {
		return explain(u.home, "list CustomResourceDefinitions", err)
	}
	for _, item := range list {
		if strings.HasSuffix(item.Name, "."+v1alpha1.GroupName) {
			t.kinds = append(t.kinds, item.Name)
			t.Made = append(t.Made, "CustomResourceDefinition "+item.Name)
		}
	}
	return nil
}

func (u *uninstallRun) lookAtPeerings(ctx context.Context, t *traces) error {
	list, err := u.home.peerings.List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return explain(u.home, "list Peerings", err)
	}
	t.peerings = list.Items
	for i := range list.Items {
		t.Peerings = append(t.Peerings, list.Items[i].Name)
	}
	slices.Sort(t.Peerings)
	return nil
}

// lookAtNodes finds virtual nodes with their pods, and the gateways that install chose.
func (u *uninstallRun) lookAtNodes(ctx context.Context, t *traces) error {
	nodes, err := u.home.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(u.home, "list nodes", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if node.Labels[v1alpha1.LabelGateway] == gatewayInstalled {
			t.gateways = append(t.gateways, node.Name)
			t.Made = append(t.Made, fmt.Sprintf("label %s of Node %s", v1alpha1.LabelGateway, node.Name))
		}
		if node.Labels[v1alpha1.LabelPeer] == "" {
			continue
		}
		t.nodes = append(t.nodes, *node)
		t.Made = append(t.Made, "Node "+node.Name)
		pods, err := u.home.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, onNode(node.Name))
		if err != nil {
			return explain(u.home, "list the pods on node "+node.Name, err)
		}
		for j := range pods.Items {
			if pod := &pods.Items[j]; pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
				t.Offloaded = append(t.Offloaded, pod.Namespace+"/"+pod.Name)
			}
		}
	}
	return nil
}

// lookAtGuests finds what other clusters have here that would be lost: pods that run, and data.
func (u *uninstallRun) lookAtGuests(ctx context.Context, t *traces) error {
	pods, err := u.home.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelOrigin})
	if err != nil {
		return explain(u.home, "list the pods of tenants", err)
	}
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
			t.Guests = append(t.Guests, fmt.Sprintf("%s/%s (of %s)", pod.Namespace, pod.Name, pod.Labels[v1alpha1.LabelOrigin]))
		}
	}
	claims, err := u.home.kube.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelOrigin})
	if err != nil {
		return explain(u.home, "list the claims of tenants", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		t.Guests = append(t.Guests, fmt.Sprintf("PersistentVolumeClaim %s/%s (of %s)", claim.Namespace, claim.Name, claim.Labels[v1alpha1.LabelOrigin]))
	}
	return nil
}

// lookAtClaims finds claims whose volumes only Spillway serves.
func (u *uninstallRun) lookAtClaims(ctx context.Context, t *traces) error {
	classes, err := u.home.kube.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(u.home, "list StorageClasses", err)
	}
	ours := map[string]bool{}
	for i := range classes.Items {
		ours[classes.Items[i].Name] = classes.Items[i].Provisioner == volumeProvisioner
	}
	claims, err := u.home.kube.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(u.home, "list PersistentVolumeClaims", err)
	}
	for i := range claims.Items {
		claim := &claims.Items[i]
		if claim.Namespace == v1alpha1.SystemNamespace || claim.Spec.StorageClassName != nil && ours[*claim.Spec.StorageClassName] {
			t.Claims = append(t.Claims, claim.Namespace+"/"+claim.Name)
		}
	}
	slices.Sort(t.Claims)
	return nil
}

// lookAtTenants finds what was made for tenants, even for those whose Peering is gone.
func (u *uninstallRun) lookAtTenants(ctx context.Context, t *traces) error {
	for path, kind := range map[string]string{
		"/api/v1/namespaces":                                     "Namespace",
		"/apis/rbac.authorization.k8s.io/v1/clusterroles":        "ClusterRole",
		"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings": "ClusterRoleBinding",
	} {
		found, err := listNames(ctx, u.home, path, v1alpha1.LabelTenant)
		if err != nil {
			return explain(u.home, "list what was made for tenants", err)
		}
		for _, item := range found {
			t.Made = append(t.Made, kind+" "+item.Name)
			if id := item.Labels[v1alpha1.LabelTenant]; !slices.Contains(t.tenants, id) {
				t.tenants = append(t.tenants, id)
			}
		}
	}
	slices.Sort(t.tenants)
	return nil
}

// lookAtRequests finds requests for the certificate of the kubelet APIs.
func (u *uninstallRun) lookAtRequests(ctx context.Context, t *traces) error {
	list, err := u.home.kube.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) {
		return nil // they go by themselves after a while
	}
	if err != nil {
		return explain(u.home, "list CertificateSigningRequests", err)
	}
	for i := range list.Items {
		if list.Items[i].Spec.Username == controllerUser {
			t.requests = append(t.requests, list.Items[i].Name)
			t.Made = append(t.Made, "CertificateSigningRequest "+list.Items[i].Name)
		}
	}
	return nil
}

func (u *uninstallRun) lookAtNamespaces(ctx context.Context, t *traces) error {
	for _, name := range []string{nodeNamespace, v1alpha1.SystemNamespace} {
		namespace, err := u.home.kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return explain(u.home, "read namespace "+name, err)
		}
		t.rooms = append(t.rooms, *namespace)
		t.Made = append(t.Made, "Namespace "+name)
	}
	return nil
}

// lookAtChart finds the objects of the chart, of the release as well as of this program's: half a release may be gone.
func (u *uninstallRun) lookAtChart(ctx context.Context, t *traces) error {
	all, err := charts.Render(nil, charts.RenderOptions{})
	if err != nil {
		return fmt.Errorf("render the chart: %w", err)
	}
	manifests := []string{string(charts.Join(all))}
	if u.had != nil {
		manifests = append(manifests, u.had.Manifest)
	}
	seen := map[string]bool{}
	for _, manifest := range manifests {
		objects, err := u.helm.objects(manifest)
		if err != nil {
			continue // kinds of others that are gone: their objects are, too
		}
		for _, info := range objects {
			name := infoName(info)
			if kind := info.Mapping.GroupVersionKind.Kind; seen[name] || kind == "CustomResourceDefinition" || kind == "Namespace" {
				continue
			}
			seen[name] = true
			if err := info.Get(); err == nil {
				t.chart = append(t.chart, info)
				t.Objects = append(t.Objects, name)
			} else if !apierrors.IsNotFound(err) {
				return explain(u.home, "read "+name, err)
			}
		}
	}
	slices.Sort(t.Objects)
	return ctx.Err()
}

// listNames reads the metadata of the objects at path that carry a label; of all, for the empty label.
func listNames(ctx context.Context, c *cluster, path, label string) ([]metav1.ObjectMeta, error) {
	var list metav1.PartialObjectMetadataList
	request := c.kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
	if label != "" {
		request = request.Param("labelSelector", label)
	}
	data, err := request.Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("decode the list at %s: %w", path, err)
	}
	found := make([]metav1.ObjectMeta, len(list.Items))
	for i := range list.Items {
		found[i] = list.Items[i].ObjectMeta
	}
	return found, nil
}

// uidOf is the UID as a precondition.
func uidOf(uid types.UID) *metav1.Preconditions { return metav1.NewUIDPreconditions(string(uid)) }
