package fuzz

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe returns one that is valid for liveness and for startup.
func (s *shape) probe() corev1.Probe {
	d := s.dice
	p := corev1.Probe{
		InitialDelaySeconds: d.Int32N(9), TimeoutSeconds: d.Int32N(9), PeriodSeconds: d.Int32N(9), SuccessThreshold: d.Int32N(2), FailureThreshold: d.Int32N(9),
		TerminationGracePeriodSeconds: maybe(d, 30, func() int64 { return int64(d.between(1, 60)) }),
	}
	p.ProbeHandler = oneOf(d,
		func(h *corev1.ProbeHandler) { h.Exec = d.exec() },
		func(h *corev1.ProbeHandler) { h.HTTPGet = d.httpGet() },
		func(h *corev1.ProbeHandler) {
			h.TCPSocket = &corev1.TCPSocketAction{Port: d.portOrName(), Host: pick(d, "", "127.0.0.1")}
		},
		func(h *corev1.ProbeHandler) {
			h.GRPC = &corev1.GRPCAction{Port: 9090, Service: maybe(d, 50, func() string { return pick(d, "", "health") })}
		},
	)
	return p
}

// hook returns what runs when a container begins or ends. What sleeps does so within the pod's grace period.
func (s *shape) hook() corev1.LifecycleHandler {
	d := s.dice
	return oneOf(d,
		func(h *corev1.LifecycleHandler) { h.Exec = d.exec() },
		func(h *corev1.LifecycleHandler) { h.HTTPGet = d.httpGet() },
		func(h *corev1.LifecycleHandler) {
			h.TCPSocket = &corev1.TCPSocketAction{Port: d.portOrName(), Host: pick(d, "", "127.0.0.1")}
		},
		func(h *corev1.LifecycleHandler) {
			if h.Exec = d.exec(); s.grace >= 0 {
				h.Exec, h.Sleep = nil, &corev1.SleepAction{Seconds: d.Int64N(s.grace + 1)}
			}
		},
	)
}

func (d *dice) exec() *corev1.ExecAction {
	return &corev1.ExecAction{Command: []string{"/bin/sh", "-c", d.text()}}
}

func (d *dice) httpGet() *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{Path: pick(d, "", "/healthz?x=1"), Port: d.portOrName(), Host: pick(d, "", "example.com"), Scheme: pick(d, "", corev1.URISchemeHTTP, corev1.URISchemeHTTPS),
		HTTPHeaders: some(d, 2, func() corev1.HTTPHeader { return corev1.HTTPHeader{Name: "X-Probe", Value: d.text()} })}
}

func (d *dice) portOrName() intstr.IntOrString {
	return pick(d, intstr.FromInt32(8080), intstr.FromString("http"))
}
