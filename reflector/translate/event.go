package translate

import (
	"encoding/hex"
	"hash/fnv"
	"io"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// EventComponent is what reports Events of Spillway.
const EventComponent = "spillway"

// Event returns the Event at home, about local, that says what remote says about its twin; nil when remote is none that
// home wants to see: only Warnings about pods are. Its name follows from local, the reason and the message, so that the
// same words about the same pod are one object, also for another process. It has a count and times of whole seconds, in
// the manner of core/v1, whichever API remote was written by (events.k8s.io has a series: KEP-383).
//
// The caller has checked that remote is about the twin of local that there is now.
func Event(remote *corev1.Event, local *corev1.Pod, env Env) *corev1.Event {
	if remote.Type != corev1.EventTypeWarning || remote.InvolvedObject.Kind != "Pod" {
		return nil
	}
	message := AtHome(remote.Message, env.RemoteNamespace, local.Namespace)
	first, last := EventSeen(remote)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: eventName(local, remote.Reason, message), Namespace: local.Namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: local.Namespace, Name: local.Name, UID: local.UID,
			FieldPath: remote.InvolvedObject.FieldPath,
		},
		Type: remote.Type, Reason: remote.Reason, Message: message,
		Source:              corev1.EventSource{Component: EventComponent, Host: env.NodeName},
		ReportingController: EventComponent, ReportingInstance: env.NodeName,
		Count: eventCount(remote), FirstTimestamp: first, LastTimestamp: last,
	}
}

// EventSeen returns when what an Event says was seen first and last, in whole seconds.
func EventSeen(e *corev1.Event) (first, last metav1.Time) {
	first, last = e.FirstTimestamp, e.LastTimestamp
	if first.IsZero() {
		first = metav1.Time(e.EventTime)
	}
	if first.IsZero() {
		first = e.CreationTimestamp
	}
	if e.Series != nil && last.Before((*metav1.Time)(&e.Series.LastObservedTime)) {
		last = metav1.Time(e.Series.LastObservedTime)
	}
	if last.Before(&first) {
		last = first
	}
	return metav1.NewTime(first.Truncate(time.Second)), metav1.NewTime(last.Truncate(time.Second))
}

func eventCount(e *corev1.Event) int32 {
	n := max(e.Count, 1)
	if e.Series != nil {
		n = max(n, e.Series.Count)
	}
	return n
}

// eventName is that of a pod and a hash of what makes two Events the same.
func eventName(local *corev1.Pod, reason, message string) string {
	hash := fnv.New128a()
	for _, part := range [...]string{EventComponent, string(local.UID), reason, message} {
		_, _ = io.WriteString(hash, strconv.Itoa(len(part))+":"+part) // a hash never fails
	}
	suffix := "." + hex.EncodeToString(hash.Sum(nil))
	const longest = 253
	return strings.TrimRight(local.Name[:min(len(local.Name), longest-len(suffix))], ".-") + suffix
}
