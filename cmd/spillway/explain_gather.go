package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"encoding/json"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/spillway-dev/spillway/peering/policy"
	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// metadataOnly asks an API server for the metadata of an object alone: Secrets then stay where they are.
const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// gatherPod reads everything about the pod of wish.
func gatherPod(ctx context.Context, wish explainWish) (podFacts, error) {
	raw, err := loadKubeconfig(wish.local.kubeconfig)
	if err != nil {
		return podFacts{}, err
	}
	name, err := contextName(raw, wish.local.context)
	if err != nil {
		return podFacts{}, err
	}
	namespace := wish.namespace
	if namespace == "" {
		namespace = raw.Contexts[name].Namespace
	}
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	home, err := openContext(raw, name, "cluster")
	if err != nil {
		return podFacts{}, err
	}
	if err := reach(ctx, home); err != nil {
		return podFacts{}, err
	}
	f := podFacts{context: home.context}
	if f.pod, err = readPod(ctx, home, namespace, wish.name); err != nil {
		return f, err
	}
	if err := f.gatherHome(ctx, home); err != nil {
		return f, err
	}
	switch {
	case wish.remoteGiven:
		f.gatherTwin(ctx, home, wish.remote)
	case f.peering != nil && f.peering.Spec.API != nil:
		if names := contextsOf(raw, f.peering.Spec.API.Server, f.peering.Spec.API.CABundle); len(names) > 0 {
			f.twin.hint = names[0]
		}
	}
	f.now = home.clock.now()
	return f, nil
}

// readPod reads a pod of c; if there is none, the error names what the user may have meant.
func readPod(ctx context.Context, c *cluster, namespace, name string) (*corev1.Pod, error) {
	pod, err := c.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		return pod, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, explain(c, fmt.Sprintf("read pod %s/%s", namespace, name), err)
	}
	elsewhere, err := readPods(ctx, c, named(name))
	if err != nil {
		return nil, err
	}
	list, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		list = &corev1.PodList{} // only for a hint
	}
	return nil, problemf(whichPod(c.context, name, elsewhere, list.Items), "there is no pod %q in namespace %q of %s", name, namespace, c.title())
}

// whichPod guesses which pod a user meant by a name that does not exist in the namespace: the same name elsewhere, or
// one beside it that begins like it, as the pods of a Deployment do.
func whichPod(context, name string, elsewhere, beside []corev1.Pod) string {
	var namespaces, names []string
	for i := range elsewhere {
		namespaces = append(namespaces, "-n "+elsewhere[i].Namespace)
	}
	for i := range beside {
		if strings.HasPrefix(beside[i].Name, name) {
			names = append(names, "pod/"+beside[i].Name)
		}
	}
	const most = 5
	names = names[:min(most, len(names))]
	namespaces = namespaces[:min(most, len(namespaces))]
	switch {
	case len(names) > 0:
		return "Did you mean " + strings.Join(names, " or ") + "?"
	case len(namespaces) > 0:
		return "There is one of that name elsewhere: " + strings.Join(namespaces, " or ") + "."
	}
	return fmt.Sprintf("See which there are: kubectl --context %s get pods --all-namespaces", context)
}

// gatherHome reads what the pod's own cluster knows of it.
func (f *podFacts) gatherHome(ctx context.Context, c *cluster) (err error) {
	if f.namespace, err = mayRead(c.kube.CoreV1().Namespaces().Get(ctx, f.pod.Namespace, metav1.GetOptions{})); err != nil {
		return explain(c, "read namespace "+f.pod.Namespace, err)
	}
	if f.pod.Spec.NodeName != "" {
		f.node, err = mayRead(c.kube.CoreV1().Nodes().Get(ctx, f.pod.Spec.NodeName, metav1.GetOptions{}))
		if f.nodeGone = apierrors.IsNotFound(err); f.nodeGone {
			f.node, err = nil, nil
		}
		if err != nil {
			return explain(c, "read node "+f.pod.Spec.NodeName, err)
		}
	}
	nodes, err := mayRead(c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelPeer}))
	if err != nil {
		return explain(c, "list the virtual nodes", err)
	}
	if nodes != nil {
		f.virtual = nodes.Items
	}
	if err := f.gatherPolicies(ctx, c); err != nil {
		return err
	}
	if err := f.gatherPeerings(ctx, c); err != nil {
		return err
	}
	if f.events, err = eventsOf(ctx, c, f.pod); err != nil {
		return err
	}
	f.needs = needsOf(&f.pod.Spec)
	findNeeds(f.needs, func(n *need) { n.Home = lookFor(ctx, c, f.pod.Namespace, *n, "") })
	return f.gatherFollows(ctx, c)
}

// gatherPolicies reads the OffloadPolicies and Migrations of the pod's namespace. A cluster that does not know the kinds has none.
func (f *podFacts) gatherPolicies(ctx context.Context, c *cluster) error {
	list, err := mayRead(c.policies(f.pod.Namespace).List(ctx, metav1.ListOptions{}))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list OffloadPolicies", err)
	}
	var policies []*v1alpha1.OffloadPolicy
	if list != nil {
		for i := range list.Items {
			policies = append(policies, &list.Items[i])
		}
	}
	moving, err := mayRead(c.migrations(f.pod.Namespace).List(ctx, metav1.ListOptions{}))
	if err != nil && !apierrors.IsNotFound(err) {
		return explain(c, "list Migrations", err)
	}
	var migrations []*v1alpha1.Migration
	if moving != nil {
		for i := range moving.Items {
			migrations = append(migrations, &moving.Items[i])
		}
	}
	f.policies = policy.NewSet(policies, migrations)
	return nil
}

// mayRead drops what the user may not read: nil, without an error.
func mayRead[T any](object *T, err error) (*T, error) {
	if apierrors.IsForbidden(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return object, nil
}

// gatherPeerings reads the Peerings that borrow, that of the pod's node among them, and whether the controller works.
func (f *podFacts) gatherPeerings(ctx context.Context, c *cluster) error {
	list, err := mayRead(c.peerings.List(ctx, metav1.ListOptions{}))
	if err != nil {
		return explain(c, "list Peerings", err)
	}
	if f.peeringsRead = list != nil; f.peeringsRead {
		for i := range list.Items {
			if list.Items[i].Spec.Borrow != nil {
				f.borrowing = append(f.borrowing, list.Items[i])
			}
		}
	}
	if name := f.peerName(); name != "" {
		f.peering = find(f.borrowing, name)
	}
	alive, why, err := controllerAlive(ctx, c, false)
	if err == nil && !alive {
		f.idle = why
	}
	return nil
}

// eventsOf lists the Events of a pod. None if they may not be read.
func eventsOf(ctx context.Context, c *cluster, pod *corev1.Pod) ([]corev1.Event, error) {
	list, err := mayRead(c.kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(pod.UID)).String(),
	}))
	if err != nil {
		return nil, explain(c, "list the events of pod "+pod.Name, err)
	}
	if list == nil {
		return nil, nil
	}
	return list.Items, nil
}

// findNeeds calls look for every need at once.
func findNeeds(list []need, look func(*need)) {
	var group sync.WaitGroup
	for i := range list {
		group.Go(func() { look(&list[i]) })
	}
	group.Wait()
}

// lookFor says whether the object of n is in a namespace of c, with the origin label if origin is not empty. Only its
// metadata is read.
func lookFor(ctx context.Context, c *cluster, namespace string, n need, origin string) presence {
	path := fmt.Sprintf("/api/v1/namespaces/%s/%ss/%s", namespace, strings.ToLower(n.Kind), n.Name)
	data, err := c.kube.Discovery().RESTClient().Get().AbsPath(path).SetHeader("Accept", metadataOnly).Do(ctx).Raw()
	var object metav1.PartialObjectMetadata
	switch {
	case apierrors.IsNotFound(err):
		return presenceMissing
	case err != nil, json.Unmarshal(data, &object) != nil:
		return presenceUnknown
	case origin != "" && object.Labels[v1alpha1.LabelOrigin] != origin:
		return presenceForeign
	}
	return presenceThere
}

// gatherTwin reads what the provider of the kubeconfig context knows of the pod. What goes wrong there is part of the story.
func (f *podFacts) gatherTwin(ctx context.Context, home *cluster, where access) {
	f.twin.looked = true
	c, err := open(where, "provider")
	if err == nil {
		f.twin.context = c.context
		err = f.gatherProvider(ctx, home, c)
	}
	if err != nil {
		f.twin.why = strings.TrimSpace(err.Error())
	}
}

func (f *podFacts) gatherProvider(ctx context.Context, home, c *cluster) error {
	switch {
	case f.peerName() == "":
		return nil // not offloaded: nothing is to be found
	case f.peering == nil:
		return problemf("", "no Peering of this cluster says which cluster the provider is")
	}
	if err := reach(ctx, c); err != nil {
		return err
	}
	if err := both(home, c, func(c *cluster) error { return identify(ctx, c) }); err != nil {
		return err
	}
	if c.id != f.peering.Spec.ClusterID {
		return problemf("Name the context of the peer.", "%s is not the cluster that Peering %q stands for", c.title(), f.peering.Name)
	}
	list, err := c.peerings.List(ctx, metav1.ListOptions{})
	if err != nil {
		return explain(c, "list Peerings", err)
	}
	i := slices.IndexFunc(list.Items, func(p v1alpha1.Peering) bool { return p.Spec.ClusterID == home.id })
	if i < 0 {
		return problemf("Peer them: "+fmt.Sprintf("spillway peer --context %s --remote-context %s", home.context, c.context),
			"%s has no Peering for this cluster", c.title())
	}
	if f.twin.namespace = tenantNamespace(&list.Items[i], f.pod.Namespace); f.twin.namespace == "" {
		return nil
	}
	for _, list := range [][]need{f.needs, f.follows} {
		findNeeds(list, func(n *need) { n.Provider = lookFor(ctx, c, f.twin.namespace, *n, home.id) })
	}
	return f.gatherTwinPod(ctx, c, home.id)
}

// gatherTwinPod reads the twin, if it is one, and its Events.
func (f *podFacts) gatherTwinPod(ctx context.Context, c *cluster, origin string) error {
	pod, err := c.kube.CoreV1().Pods(f.twin.namespace).Get(ctx, f.pod.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return explain(c, fmt.Sprintf("read pod %s/%s", f.twin.namespace, f.pod.Name), err)
	}
	if pod.Labels[v1alpha1.LabelOrigin] != origin || pod.Annotations[v1alpha1.AnnotationOriginUID] != string(f.pod.UID) {
		f.twin.foreign = true
		return nil
	}
	f.twin.pod = pod
	f.twin.events, err = eventsOf(ctx, c, pod)
	return err
}

// tenantNamespace is what a provider calls the consumer's namespace of this name. Empty: it has opened none.
func tenantNamespace(p *v1alpha1.Peering, name string) string {
	if p.Status.Tenant == nil {
		return ""
	}
	for _, n := range p.Status.Tenant.Namespaces {
		if n.Name == name {
			return n.RemoteName
		}
	}
	return ""
}
