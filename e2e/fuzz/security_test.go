package fuzz

import corev1 "k8s.io/api/core/v1"

func (d *dice) id() int64 { return int64(d.between(0, 70000)) }

func (d *dice) seccomp() corev1.SeccompProfile {
	if d.chance(30) {
		file := d.path()
		return corev1.SeccompProfile{Type: corev1.SeccompProfileTypeLocalhost, LocalhostProfile: &file}
	}
	return corev1.SeccompProfile{Type: pick(d, corev1.SeccompProfileTypeRuntimeDefault, corev1.SeccompProfileTypeUnconfined)}
}

func (d *dice) appArmor() corev1.AppArmorProfile {
	if d.chance(30) {
		name := "profile"
		return corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
	}
	return corev1.AppArmorProfile{Type: pick(d, corev1.AppArmorProfileTypeRuntimeDefault, corev1.AppArmorProfileTypeUnconfined)}
}

func (d *dice) seLinux() corev1.SELinuxOptions {
	return corev1.SELinuxOptions{User: "system_u", Role: "object_r", Type: "svirt_t", Level: "s0:c1,c2"}
}

// windowsOptions returns what is equal in all containers of a pod: hostProcess must be.
func (s *shape) windowsOptions() corev1.WindowsSecurityContextOptions {
	o := corev1.WindowsSecurityContextOptions{
		GMSACredentialSpecName: maybe(s.dice, 40, func() string { return "web" }),
		GMSACredentialSpec:     maybe(s.dice, 40, func() string { return "{}" }),
		RunAsUserName:          maybe(s.dice, 40, func() string { return pick(s.dice, `NT AUTHORITY\SYSTEM`, "ContainerUser") }),
	}
	if s.hostProcess || s.chance(30) {
		o.HostProcess = &s.hostProcess
	}
	return o
}

// podSecurity returns the security of the whole pod.
func (s *shape) podSecurity() corev1.PodSecurityContext {
	d := s.dice
	if s.windows {
		o := s.windowsOptions()
		return corev1.PodSecurityContext{WindowsOptions: &o, RunAsNonRoot: maybe(d, 30, d.bool)}
	}
	c := corev1.PodSecurityContext{
		SELinuxOptions: maybe(d, 30, d.seLinux), RunAsUser: maybe(d, 40, d.id), RunAsGroup: maybe(d, 40, d.id), RunAsNonRoot: maybe(d, 40, d.bool),
		SupplementalGroups: some(d, 3, d.id), FSGroup: maybe(d, 40, d.id), SeccompProfile: maybe(d, 40, d.seccomp),
		SupplementalGroupsPolicy: maybe(d, 30, func() corev1.SupplementalGroupsPolicy {
			return pick(d, corev1.SupplementalGroupsPolicyMerge, corev1.SupplementalGroupsPolicyStrict)
		}),
		FSGroupChangePolicy: maybe(d, 30, func() corev1.PodFSGroupChangePolicy {
			return pick(d, corev1.FSGroupChangeAlways, corev1.FSGroupChangeOnRootMismatch)
		}),
		SELinuxChangePolicy: maybe(d, 30, func() corev1.PodSELinuxChangePolicy {
			return corev1.SELinuxChangePolicyRecursive // the other one needs a feature gate
		}),
	}
	if !s.oldAppArmor {
		c.AppArmorProfile = maybe(d, 40, d.appArmor)
	}
	if !s.hostNetwork && d.chance(30) {
		c.Sysctls = []corev1.Sysctl{{Name: "net.core.somaxconn", Value: "1024"}, {Name: "net/ipv4/ip_unprivileged_port_start", Value: "0"}}
	}
	return c
}

// containerSecurity returns the security of one container.
func (s *shape) containerSecurity() corev1.SecurityContext {
	d := s.dice
	if s.windows {
		o := s.windowsOptions()
		return corev1.SecurityContext{WindowsOptions: &o, RunAsNonRoot: maybe(d, 30, d.bool)}
	}
	c := corev1.SecurityContext{
		Privileged: maybe(d, 40, d.bool), SELinuxOptions: maybe(d, 30, d.seLinux), RunAsUser: maybe(d, 40, d.id), RunAsGroup: maybe(d, 40, d.id),
		RunAsNonRoot: maybe(d, 40, d.bool), ReadOnlyRootFilesystem: maybe(d, 40, d.bool), SeccompProfile: maybe(d, 40, d.seccomp),
		Capabilities: maybe(d, 40, func() corev1.Capabilities {
			return corev1.Capabilities{Add: some(d, 2, func() corev1.Capability { return "NET_ADMIN" }), Drop: []corev1.Capability{"ALL"}}
		}),
		ProcMount: maybe(d, 20, func() corev1.ProcMountType {
			if s.ownUsers {
				return corev1.UnmaskedProcMount
			}
			return corev1.DefaultProcMount
		}),
	}
	if !s.oldAppArmor {
		c.AppArmorProfile = maybe(d, 40, d.appArmor)
	}
	if c.Privileged == nil || !*c.Privileged {
		c.AllowPrivilegeEscalation = maybe(d, 40, d.bool)
	}
	return c
}
