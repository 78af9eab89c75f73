{{/* With "-statsd" behind it, it is still a name for a Service. What is cut off is told apart by a hash. */}}
{{- define "rotameter.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $chart := default .Chart.Name .Values.nameOverride -}}
{{- $name = ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) -}}
{{- end -}}
{{- if gt (len $name) 56 -}}
{{- $name = printf "%s-%s" (trunc 47 $name | trimSuffix "-") (sha256sum $name | trunc 8) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{/* For what another namespace's release of the same name would make as well. No namespace has a dot in it. */}}
{{- define "rotameter.clusterName" -}}
{{- printf "%s.%s" .Release.Namespace (include "rotameter.fullname" .) -}}
{{- end -}}

{{- define "rotameter.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "rotameter.labels" -}}
{{ include "rotameter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "rotameter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "rotameter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "rotameter.image" -}}
{{- with .Values.image.registry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- define "rotameter.inKernel" -}}
{{- if and .Values.ebpf.enabled (eq .Values.mode "daemonset") }}true{{ end -}}
{{- end -}}

{{- define "rotameter.scheme" -}}
{{- if (default dict .Values.web.config).tls_server_config }}HTTPS{{ else }}{{ .Values.probes.scheme }}{{ end -}}
{{- end -}}

{{/* A kubelet has no password, no certificate, and no patience with a rate limit: then only the port is tried. */}}
{{- define "rotameter.probe" -}}
{{- $root := index . 0 -}}
{{- $config := default dict $root.Values.web.config -}}
{{- $client := default "" (default dict $config.tls_server_config).client_auth_type -}}
{{- if or $config.basic_auth_users $config.rate_limit (hasPrefix "Require" $client) -}}
tcpSocket:
  port: http
{{- else -}}
httpGet:
  path: {{ index . 1 }}
  port: http
  scheme: {{ include "rotameter.scheme" $root }}
{{- end -}}
{{- end -}}

{{/* The pod, which a DaemonSet and a Deployment have in common. */}}
{{- define "rotameter.pod" -}}
{{- $inKernel := include "rotameter.inKernel" . -}}
metadata:
  labels:
    {{- include "rotameter.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- if eq .Values.mode "daemonset" }}
    cluster-autoscaler.kubernetes.io/enable-ds-eviction: "false"
    {{- end }}
    prometheus.io/scrape: "true"
    prometheus.io/port: {{ .Values.web.port | quote }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "rotameter.serviceAccountName" . }}
  automountServiceAccountToken: {{ not (empty .Values.sender.labels) }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.mode "daemonset" }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- if or .Values.priorityClass.create .Values.priorityClass.name }}
  priorityClassName: {{ default (include "rotameter.clusterName" .) .Values.priorityClass.name }}
  {{- end }}
  {{- end }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: rotameter
      image: {{ include "rotameter.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- range .Values.statsd.udpPorts }}
        - --statsd.listen-udp=:{{ . }}
        {{- end }}
        - --statsd.listen-tcp={{ if .Values.statsd.tcpPort }}:{{ .Values.statsd.tcpPort }}{{ end }}
        - --web.listen-address=:{{ .Values.web.port }}
        {{- if .Values.web.config }}
        - --web.config.file=/etc/rotameter/web/web.yml
        {{- end }}
        {{- if .Values.profile.name }}
        - --profile={{ .Values.profile.name }}
        - --profile.prefix={{ .Values.profile.prefix }}
        {{- end }}
        {{- if .Values.mapping }}
        - --statsd.mapping-config=/etc/rotameter/mapping/mapping.yml
        {{- end }}
        - --registry.max-series={{ int64 .Values.registry.maxSeries }}
        - --log.level={{ .Values.log.level }}
        - --log.format={{ .Values.log.format }}
        {{- if $inKernel }}
        {{- range .Values.ebpf.xdpInterfaces }}
        - {{ printf "--xdp.interface=%s" . | quote }}
        {{- end }}
        {{- range .Values.ebpf.xdpAllowSources }}
        - --xdp.allow-source={{ . }}
        {{- end }}
        {{- else }}
        - --ebpf=off
        {{- end }}
        {{- with .Values.sender.labels }}
        - --sender.labels={{ join "," . }}
        {{- if $.Values.sender.namespace }}
        - --sender.namespace={{ $.Values.sender.namespace }}
        {{- end }}
        {{- if eq $.Values.mode "central" }}
        - --sender.node=*
        {{- end }}
        {{- end }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        - name: NODE_NAME
          valueFrom:
            fieldRef:
              fieldPath: spec.nodeName
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range .Values.statsd.udpPorts }}
        - name: udp-{{ . }}
          containerPort: {{ . }}
          protocol: UDP
        {{- end }}
        {{- if .Values.statsd.tcpPort }}
        - name: tcp-{{ .Values.statsd.tcpPort }}
          containerPort: {{ .Values.statsd.tcpPort }}
          protocol: TCP
        {{- end }}
        - name: http
          containerPort: {{ .Values.web.port }}
          protocol: TCP
      # Never /metrics: an exposition of a million series is no health check.
      livenessProbe:
        {{- include "rotameter.probe" (list . "/-/healthy") | nindent 8 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- include "rotameter.probe" (list . "/-/ready") | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        {{- if $inKernel }}
        # Capabilities that a pod adds reach no other user.
        runAsUser: 0
        {{- else }}
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        {{- end }}
        capabilities:
          drop: [ALL]
          {{- if $inKernel }}
          add: [BPF, PERFMON, NET_ADMIN]
          {{- end }}
        seccompProfile:
          type: {{ if $inKernel }}{{ .Values.ebpf.seccompProfile }}{{ else }}RuntimeDefault{{ end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        # Whole folders, no subPath: so a change arrives, and is read without a restart.
        {{- if .Values.mapping }}
        - name: mapping
          mountPath: /etc/rotameter/mapping
          readOnly: true
        {{- end }}
        {{- if .Values.web.config }}
        - name: web
          mountPath: /etc/rotameter/web
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- if .Values.mapping }}
    - name: mapping
      configMap:
        name: {{ include "rotameter.fullname" . }}
    {{- end }}
    {{- if .Values.web.config }}
    - name: web
      secret:
        secretName: {{ include "rotameter.fullname" . }}-web
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* What PodMonitor and ServiceMonitor say of an endpoint. */}}
{{- define "rotameter.endpoint" -}}
- port: http
  path: /metrics
  scheme: {{ lower .scheme }}
  interval: {{ .monitor.interval }}
  scrapeTimeout: {{ .monitor.scrapeTimeout }}
  honorLabels: {{ .monitor.honorLabels }}
  relabelings:
    - sourceLabels: [__meta_kubernetes_pod_node_name]
      targetLabel: node
    {{- with .monitor.relabelings }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .monitor.metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .monitor.endpoint }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
