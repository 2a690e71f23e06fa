package main

import (
	"context"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/spillway-dev/spillway/peering/v1alpha1"
)

// kindService is a kind of what follows a pod although the pod does not name it.
const kindService = "Service"

// gatherFollows lists what else is at the provider for an offloaded pod.
func (f *podFacts) gatherFollows(ctx context.Context, c *cluster) error {
	if f.peerName() == "" {
		return nil
	}
	services, err := mayRead(c.kube.CoreV1().Services(f.pod.Namespace).List(ctx, metav1.ListOptions{}))
	if err != nil {
		return explain(c, "list the Services of namespace "+f.pod.Namespace, err)
	}
	if services != nil {
		f.follows = servicesOf(f.pod, services.Items)
	}
	if mountsToken(&f.pod.Spec) {
		f.follows = append(f.follows, need{Kind: kindSecret, Name: tokenSecret(f.pod), Home: presenceMissing, Provider: presenceUnknown})
	}
	return nil
}

// servicesOf are the Services that lead to a pod, sorted by name.
func servicesOf(pod *corev1.Pod, services []corev1.Service) []need {
	var list []need
	for i := range services {
		selector := services[i].Spec.Selector
		if len(selector) > 0 && labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
			list = append(list, need{Kind: kindService, Name: services[i].Name, Home: presenceThere, Provider: presenceUnknown})
		}
	}
	slices.SortFunc(list, func(a, b need) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// tokenSecret is the name of the Secret with the tokens of a pod. It is made at the provider and nowhere else.
func tokenSecret(pod *corev1.Pod) string { return v1alpha1.TokenSecretPrefix + string(pod.UID) }

// mountsToken says whether a pod mounts a token of its ServiceAccount.
func mountsToken(spec *corev1.PodSpec) bool {
	return slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil
		})
	})
}

// followWords say where something is that follows a pod without being named by it.
func (n need) followWords() string {
	what := "here"
	if n.Kind == kindSecret {
		what = "tokens of the pod's ServiceAccount"
	}
	switch {
	case n.Provider == presenceThere && n.Kind == kindSecret:
		return what + ", at the provider"
	case n.Provider == presenceThere:
		return what + ", at the provider too"
	case n.Provider == presenceForeign:
		return what + ", at the provider another of that name"
	case n.Provider == presenceMissing && n.Kind == kindSecret:
		return what + ", not at the provider: they need a tunnel to the API server of here"
	case n.Provider == presenceMissing:
		return what + ", not at the provider"
	}
	if n.Kind == kindSecret {
		return what + "; follow the pod"
	}
	return what + "; follows the namespace"
}

// fromProvider says whether an Event at home tells what the provider said of the twin.
func (f podFacts) fromProvider(e *corev1.Event) bool {
	return e.ReportingController == "spillway" && e.ReportingInstance == f.pod.Spec.NodeName && e.ReportingInstance != ""
}

// eventsHere are the sayings of Events at home. What the provider said is told as its own, and only where its Events were not
// read themselves.
func (f podFacts) eventsHere() []saying {
	var own, told []corev1.Event
	for i := range f.events {
		if f.fromProvider(&f.events[i]) {
			told = append(told, f.events[i])
		} else {
			own = append(own, f.events[i])
		}
	}
	list := eventSayings(own, "event")
	if len(f.twin.events) == 0 {
		list = append(list, eventSayings(told, "event at the provider")...)
	}
	return list
}

// lastWarning is the latest Warning of the provider; nil when there is none.
func (f podFacts) lastWarning() *saying {
	var warnings []corev1.Event
	for _, e := range f.twin.events {
		if e.Type == corev1.EventTypeWarning {
			warnings = append(warnings, e)
		}
	}
	for i := range f.events {
		if len(f.twin.events) == 0 && f.fromProvider(&f.events[i]) {
			warnings = append(warnings, f.events[i])
		}
	}
	all := eventSayings(warnings, "event at the provider")
	if len(all) == 0 {
		return nil
	}
	last := slices.MaxFunc(all, func(a, b saying) int {
		switch {
		case a.At == nil || b.At == nil:
			return 0
		default:
			return a.At.Compare(*b.At)
		}
	})
	return &last
}
