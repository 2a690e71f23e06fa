package fuzz

import (
	corev1 "k8s.io/api/core/v1"
)

func (d *dice) image() string {
	return pick(d, "busybox", "registry.example.com/team/app:v1.2", "app@sha256:"+"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
}

func (d *dice) pullPolicy() corev1.PullPolicy {
	return pick(d, "", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever)
}

// container returns what containers of all kinds may have.
func (s *shape) container(name string) corev1.Container {
	d := s.dice
	c := corev1.Container{
		Name: name, Image: d.image(), ImagePullPolicy: d.pullPolicy(),
		Command: some(d, 2, d.text), Args: some(d, 3, d.text), WorkingDir: pick(d, "", "/work", "relative"),
		Ports: some(d, 3, s.port), EnvFrom: some(d, 3, d.envFrom), Env: some(d, 6, s.env),
		Resources:                s.resources(),
		SecurityContext:          maybe(d, 50, s.containerSecurity),
		TerminationMessagePath:   pick(d, "", "/dev/termination-log", "/tmp/end"),
		TerminationMessagePolicy: pick(d, "", corev1.TerminationMessageReadFile, corev1.TerminationMessageFallbackToLogsOnError),
		Stdin:                    d.chance(10), StdinOnce: d.chance(10), TTY: d.chance(10),
	}
	s.use(&c)
	if d.chance(30) {
		c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: corev1.NotRequired}, {ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.NotRequired}}
	}
	return c
}

// mainContainer returns a container that runs as long as the pod.
func (s *shape) mainContainer(name string) corev1.Container {
	c := s.container(name)
	s.tend(&c)
	if len(c.ResizePolicy) > 0 && s.restart != corev1.RestartPolicyNever {
		c.ResizePolicy[0].RestartPolicy = pick(s.dice, corev1.NotRequired, corev1.RestartContainer)
	}
	if s.chance(15) {
		s.rules(&c, pick(s.dice, corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure))
	}
	return c
}

// initContainer returns one that ends before the others begin, or a sidecar.
func (s *shape) initContainer(name string) corev1.Container {
	c := s.container(name)
	if s.bool() {
		always := corev1.ContainerRestartPolicyAlways
		c.RestartPolicy = &always
		s.tend(&c)
	} else if s.chance(20) {
		s.rules(&c, pick(s.dice, corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure))
	}
	return c
}

// tend gives a container probes and hooks.
func (s *shape) tend(c *corev1.Container) {
	d := s.dice
	c.LivenessProbe, c.StartupProbe = maybe(d, 30, s.probe), maybe(d, 20, s.probe)
	c.ReadinessProbe = maybe(d, 40, s.probe)
	if c.ReadinessProbe != nil {
		c.ReadinessProbe.TerminationGracePeriodSeconds = nil
		c.ReadinessProbe.SuccessThreshold = d.Int32N(4)
	}
	c.Lifecycle = maybe(d, 40, func() corev1.Lifecycle {
		l := corev1.Lifecycle{PostStart: maybe(d, 50, s.hook), PreStop: maybe(d, 50, s.hook)}
		if s.os != nil {
			l.StopSignal = maybe(d, 50, func() corev1.Signal { return pick(d, corev1.SIGTERM, corev1.SIGKILL) })
		}
		return l
	})
}

// rules makes a container start again by its exit code.
func (s *shape) rules(c *corev1.Container, policy corev1.ContainerRestartPolicy) {
	c.RestartPolicy = &policy
	c.RestartPolicyRules = some(s.dice, 2, func() corev1.ContainerRestartRule {
		return corev1.ContainerRestartRule{
			Action: pick(s.dice, corev1.ContainerRestartRuleActionRestart, corev1.ContainerRestartRuleActionRestartAllContainers),
			ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Values: []int32{1, 42},
				Operator: pick(s.dice, corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn)},
		}
	})
}

// port returns a port that no other of the pod has.
func (s *shape) port() corev1.ContainerPort {
	s.names++
	p := corev1.ContainerPort{Name: pick(s.dice, "", s.name("p")), ContainerPort: int32(1024 + s.names), Protocol: pick(s.dice, "", corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)}
	if s.chance(30) {
		p.HostPort = p.ContainerPort
		p.HostIP = pick(s.dice, "", "127.0.0.1", "::1")
	}
	return p
}

// resources returns limits and requests that fit those of podResources.
func (s *shape) resources() corev1.ResourceRequirements {
	d := s.dice
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	if d.chance(50) {
		r.Requests[corev1.ResourceCPU], r.Requests[corev1.ResourceMemory] = d.quantity(1, 500, "m"), d.quantity(0, 500, "Mi")
	}
	if d.chance(50) {
		r.Limits[corev1.ResourceCPU], r.Limits[corev1.ResourceMemory] = d.quantity(500, 1500, "m"), d.quantity(500, 1000, "Mi")
		if d.chance(30) {
			r.Limits["hugepages-2Mi"] = d.quantity(2, 2, "Mi")
		}
	}
	if d.chance(20) {
		r.Requests[corev1.ResourceEphemeralStorage], r.Limits[corev1.ResourceEphemeralStorage] = d.quantity(1, 9, "Mi"), d.quantity(9, 20, "Mi")
	}
	if d.chance(10) {
		r.Limits["example.com/gpu"] = d.quantity(1, 3, "")
	}
	for _, claim := range s.claims {
		if d.chance(40) {
			r.Claims = append(r.Claims, corev1.ResourceClaim{Name: claim, Request: pick(d, "", "gpu")})
		}
	}
	return r
}

func (d *dice) envFrom() corev1.EnvFromSource {
	e := corev1.EnvFromSource{Prefix: pick(d, "", "APP_", "a.b-")}
	if d.bool() {
		e.ConfigMapRef = &corev1.ConfigMapEnvSource{LocalObjectReference: d.configMap(), Optional: maybe(d, 30, d.bool)}
	} else {
		e.SecretRef = &corev1.SecretEnvSource{LocalObjectReference: d.secret(), Optional: maybe(d, 30, d.bool)}
	}
	return e
}

// env returns a variable of any kind.
func (s *shape) env() corev1.EnvVar {
	d := s.dice
	e := corev1.EnvVar{Name: pick(d, "HOME", "a.b", "WITH SPACE", d.name("V"))}
	if d.chance(30) {
		e.Value = d.text()
		return e
	}
	from := oneOf(d,
		func(f *corev1.EnvVarSource) {
			f.FieldRef = d.field("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP",
				"status.hostIPs", "status.podIP", "status.podIPs", "metadata.labels['app']", "metadata.annotations['example.com/note']")
		},
		func(f *corev1.EnvVarSource) { f.ResourceFieldRef = d.resourceField() },
		func(f *corev1.EnvVarSource) {
			f.ConfigMapKeyRef = &corev1.ConfigMapKeySelector{LocalObjectReference: d.configMap(), Key: d.known("key"), Optional: maybe(d, 30, d.bool)}
		},
		func(f *corev1.EnvVarSource) {
			f.SecretKeyRef = &corev1.SecretKeySelector{LocalObjectReference: d.secret(), Key: d.known("key"), Optional: maybe(d, 30, d.bool)}
		},
		func(f *corev1.EnvVarSource) {
			for _, v := range s.volumes {
				if v.EmptyDir != nil {
					f.FileKeyRef = &corev1.FileKeySelector{VolumeName: v.Name, Path: d.path(), Key: "KEY", Optional: maybe(d, 30, d.bool)}
				}
			}
		},
	)
	if from != (corev1.EnvVarSource{}) {
		e.ValueFrom = &from
	}
	return e
}

func (d *dice) resourceField() *corev1.ResourceFieldSelector {
	if d.bool() {
		return &corev1.ResourceFieldSelector{Resource: pick(d, "limits.cpu", "requests.cpu"), Divisor: d.quantity(1, 1, pick(d, "", "m"))}
	}
	return &corev1.ResourceFieldSelector{Resource: pick(d, "limits.memory", "requests.memory", "limits.ephemeral-storage", "requests.hugepages-2Mi"), Divisor: d.quantity(1, 1, pick(d, "", "Mi", "k"))}
}

// use mounts some volumes of the pod, each as files or as a device.
func (s *shape) use(c *corev1.Container) {
	for _, v := range s.volumes {
		isClaim := v.PersistentVolumeClaim != nil || v.Ephemeral != nil
		switch {
		case s.chance(40):
		case isClaim && !s.ownUsers && s.bool():
			c.VolumeDevices = append(c.VolumeDevices, corev1.VolumeDevice{Name: v.Name, DevicePath: "/dev/" + v.Name})
		default:
			c.VolumeMounts = append(c.VolumeMounts, s.mount(v.Name, c.SecurityContext))
		}
	}
}

func (s *shape) mount(volume string, security *corev1.SecurityContext) corev1.VolumeMount {
	d := s.dice
	m := corev1.VolumeMount{Name: volume, MountPath: "/mnt/" + d.path(), ReadOnly: d.bool()}
	switch d.IntN(4) {
	case 0:
		m.SubPath = d.path()
	case 1:
		m.SubPathExpr = "$(HOME)/x"
	}
	if m.ReadOnly && d.chance(30) {
		mode := pick(d, corev1.RecursiveReadOnlyDisabled, corev1.RecursiveReadOnlyEnabled, corev1.RecursiveReadOnlyIfPossible)
		m.RecursiveReadOnly = &mode
	} else if d.chance(30) {
		mode := pick(d, corev1.MountPropagationNone, corev1.MountPropagationHostToContainer)
		if security != nil && security.Privileged != nil && *security.Privileged {
			mode = corev1.MountPropagationBidirectional
		}
		m.MountPropagation = &mode
	}
	return m
}
