{{- define "weft.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if eq .Release.Name "weft" -}}
weft
{{- else if contains "weft" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-weft" .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels of every object. Takes the root and a component. */}}
{{- define "weft.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: weft
{{ include "weft.selector" . }}
{{- end -}}

{{- define "weft.selector" -}}
app.kubernetes.io/name: weft
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "weft.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Every interface of the pod, and the pod's own address, as an address to bind begins. */}}
{{- define "weft.any" -}}
{{- eq .Values.ipFamily "IPv6" | ternary "[::]" "0.0.0.0" -}}
{{- end -}}
{{- define "weft.podIP" -}}
{{- eq .Values.ipFamily "IPv6" | ternary "[$(POD_IP)]" "$(POD_IP)" -}}
{{- end -}}

{{/* A size of weft, such as 64GiB, in MiB. */}}
{{- define "weft.mib" -}}
{{- $number := regexFind "^[0-9]+" . | int64 -}}
{{- $unit := regexFind "[MGT]iB$" . -}}
{{- mul $number (get (dict "MiB" 1 "GiB" 1024 "TiB" 1048576) $unit) -}}
{{- end -}}

{{/* Fabric address of a member of this release: a Service of its own, so that it stays while pods come and go. */}}
{{- define "weft.memberAddress" -}}
{{ include "weft.fullname" .root }}-metadata-{{ .member }}.{{ .root.Release.Namespace }}.svc:7400
{{- end -}}

{{/* Fabric addresses of the metadata group, as the inside of a TOML or JSON array. */}}
{{- define "weft.metadataAddresses" -}}
{{- $addresses := .Values.externalMetadata -}}
{{- if .Values.metadata.enabled -}}
{{- $addresses = list -}}
{{- range $member := untilStep 1 (add1 .Values.metadata.members | int) 1 -}}
{{- $addresses = append $addresses (include "weft.memberAddress" (dict "root" $ "member" $member)) -}}
{{- end -}}
{{- end -}}
{{- range $index, $address := $addresses -}}
{{- if $index }}, {{ end }}{{ $address | quote }}
{{- end -}}
{{- end -}}

{{- define "weft.caSecret" -}}
{{- .Values.tls.secretName | default (printf "%s-ca" (include "weft.fullname" .)) -}}
{{- end -}}

{{- define "weft.log" -}}
[log]
level = {{ .Values.log.level | quote }}
format = {{ .Values.log.format | quote }}
{{- end -}}

{{- define "weft.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "weft.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
The init container that issues the certificate of this pod from the CA, and the volumes for it. Nobody else mounts the CA's
key. Takes the root, the role, the name of the process, and further roles to issue as `role/name`.
*/}}
{{- define "weft.issue" -}}
- name: {{ .container | default "certificate" }}
  image: {{ include "weft.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  args:
    - certs
    - issue
    - --dir=/ca
    - --out=/identity
    - --role={{ .role }}
    - --name={{ .name }}
    - --days={{ .root.Values.tls.days | int }}
  {{- with .env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "weft.containerSecurity" .root | nindent 4 }}
  resources:
    requests: {cpu: 10m, memory: 16Mi}
    limits: {memory: 64Mi}
  volumeMounts:
    - {name: ca, mountPath: /ca, readOnly: true}
    - {name: identity, mountPath: /identity}
{{- end -}}

{{- define "weft.identityVolumes" -}}
- name: ca
  secret:
    secretName: {{ include "weft.caSecret" . }}
    defaultMode: 0440
    {{- if eq .Values.tls.mode "certManager" }}
    items:
      - {key: tls.crt, path: ca.pem}
      - {key: tls.key, path: ca.key}
    {{- end }}
- name: identity
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{- end -}}

{{- define "weft.env" -}}
- name: {{ .name }}
  valueFrom:
    fieldRef:
      fieldPath: {{ .path }}
{{- end -}}

{{- define "weft.settings" -}}
{{- range $key, $value := . }}
- {{ printf "--set=%s=%s" $key $value | quote }}
{{- end }}
{{- end -}}

{{/* Liveness is the process and nothing else: a member without a quorum must not be killed for it. */}}
{{- define "weft.probes" -}}
startupProbe:
  httpGet: {path: /live, port: admin}
  periodSeconds: 2
  failureThreshold: 450
livenessProbe:
  httpGet: {path: /live, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /ready, port: admin}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{- define "weft.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
